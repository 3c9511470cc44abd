"""Ordinary unit tests: the plugin leaves them alone."""

import shlex


def test_quoting():
    assert shlex.split(shlex.quote("it's")) == ["it's"]
