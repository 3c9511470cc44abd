"""Sandboxes that come with a repository and a fake program, whatever kind they are."""

import pytest

from pytest_shelleval import SandboxError
from pytest_shelleval.core.observation import mark

PREPARATION = """
git init -q -b main site
cd site && git config user.name Ada && git config user.email ada@example.org
echo '<h1>Hello</h1>' > index.html && git add . && git commit -qm first
printf '#!/bin/sh\\necho "$@" >> /var/log/deploy.log\\n' > /usr/local/bin/deploy
chmod +x /usr/local/bin/deploy
"""


class Prepared:
    """Hands out the sandboxes of *provider* when :data:`PREPARATION` has run in them."""

    def __init__(self, provider):
        self._provider = provider
        self.info = {**provider.info, "prepared": "site"}

    def acquire(self):
        sandbox = self._provider.acquire()
        done = sandbox.exec(PREPARATION, timeout=30)
        if done.exit_code != 0:
            sandbox.close()
            raise SandboxError(f"the preparation failed: {done.output}")
        mark(sandbox)  # so that `effects` in the results leaves the preparation out
        return sandbox

    def close(self):
        self._provider.close()


@pytest.fixture(scope="session")
def shelleval_sandboxes(shelleval_sandboxes):
    return Prepared(shelleval_sandboxes)
