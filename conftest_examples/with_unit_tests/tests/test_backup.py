"""A script of the project's own, tried out in a sandbox."""

import shlex
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "backup.sh"


@pytest.fixture
def sandbox(shelleval_sandboxes):
    sandbox = shelleval_sandboxes.acquire()
    yield sandbox
    sandbox.close()


def test_backup_packs_and_removes(sandbox):
    sandbox.exec("mkdir docs && echo hi > docs/a.txt", timeout=10)
    done = sandbox.exec(f"bash -c {shlex.quote(SCRIPT.read_text())} backup.sh docs", timeout=10)
    assert done.exit_code == 0, done.output
    assert sandbox.exec("ls; tar tzf docs.tar.gz", timeout=10).output.split() == [
        "docs.tar.gz",
        "docs/",
        "docs/a.txt",
    ]
