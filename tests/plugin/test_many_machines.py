"""A run over several machines, which are network namespaces with sshd: see tests/hosts.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.hosts import ROOT, Hosts, missing, wait_until
from tests.support import ROWS, Evaluation

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "there can be such machines")
ORACLE = "--shelleval-model=oracle"
SOON = "  ServerAliveInterval 1\n  ServerAliveCountMax 3\n  ConnectTimeout 3\n"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with Hosts(2, tmp_path_factory.mktemp("hosts"), ssh_options=SOON) as made:
        yield made


@pytest.fixture
def tasks(evaluation: Evaluation) -> Evaluation:
    """Tasks long enough for a machine to be lost in the middle of one."""
    gold = "sleep 0.2; cp a.txt b.txt"
    evaluation.rows(*[{**ROWS[1], "task_id": f"t{n}", "gold_command": gold} for n in range(12)])
    return evaluation


class Started:
    """A run of pytest on the bridge that the machines are on."""

    def __init__(self, evaluation: Evaluation, hosts: Hosts, *args: str) -> None:
        self.evaluation = evaluation
        self.process = subprocess.Popen(
            hosts.here(*evaluation.command("-d", ORACLE, *args)),
            cwd=evaluation.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_results(self, count: int) -> None:
        path = self.evaluation.output / "results.jsonl"

        def there() -> bool:
            assert self.process.poll() is None, self.end()
            return path.exists() and path.read_bytes().count(b"\n") >= count

        wait_until(there)

    def end(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=100)
        return self.process.returncode, said


def left(hosts: Hosts, number: int) -> str:
    return hosts.output(number, "ls -d /tmp/shelleval-* 2>/dev/null || true")


# before the test that cuts a machine off: they share them


def test_a_socket_whose_server_is_killed_and_a_project_that_is_not_there(
    tasks: Evaluation, hosts: Hosts
) -> None:
    tasks.pytester.makeconftest("def pytest_shelleval_score(task, result, sandbox): return None")
    status, said = Started(tasks, hosts, hosts.spec(1)).end()
    assert status == 1
    assert "host1 lacks the run's own pytest_shelleval_score: conftest.py or a plugin" in said
    (tasks.folder / "conftest.py").unlink()

    alone = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"
    server = [sys.executable, "-m", "execnet.script.socketserver", "192.0.2.1:8888"]
    command = hosts.on(1, "env", f"PYTHONPATH={ROOT}", alone, *server)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as serving:
        wait_until(lambda: hosts.answers(1, 8888))
        run = Started(tasks, hosts, "--tx=socket=192.0.2.1:8888")
        run.wait_for_results(2)
        hosts.output(1, "pkill -9 -f '[s]ocketserver'")
        serving.wait()
        status, said = run.end()
    assert status == 0, said
    assert "192.0.2.1 does not answer: its work goes on at this machine" in said
    assert tasks.statuses() == {f"t{n}": "passed" for n in range(12)}
    workers = {line["worker"] for line in tasks.lines("results.jsonl")}
    assert workers == {"gw0@host1", "gw1"}
    assert tasks.summary()["complete"] is True
    # another run on the machine removes what a killed worker left
    assert "shelleval-" in left(hosts, 1)


def test_what_can_not_be_run_is_said_before_anything_is_spent(
    tasks: Evaluation, hosts: Hosts
) -> None:
    hosts.output(2, "mkdir -p old/pytest_shelleval")
    hosts.output(2, "echo '__version__ = \"0.0.1\"' > old/pytest_shelleval/__init__.py")
    old = hosts.spec(2, python=f"env PYTHONPATH=/tmp/old {sys.executable}")
    path = str(tasks.folder / "tasks.jsonl")
    for args, message in {
        (old,): "ERROR: host2: * has pytest-shelleval 0.0.1, and this machine has *; install it *",
        (hosts.spec(1, python="no-python"),): "ERROR: no worker can be started at host1 (*",
        (hosts.spec(2), "--shelleval-baseline", path): "*; write --shelleval-baseline=*",
    }.items():
        status, said = Started(tasks, hosts, *args).end()
        assert status == 4, said
        assert "Traceback" not in said
        pytest.LineMatcher(said.splitlines()).fnmatch_lines([message])
    assert not tasks.output.joinpath("commands.jsonl").exists()


def test_a_machine_that_is_cut_off_costs_a_retry_and_no_result(
    tasks: Evaluation, hosts: Hosts
) -> None:
    run = Started(tasks, hosts, hosts.spec(1), hosts.spec(2))
    run.wait_for_results(4)
    hosts.cut(2)
    status, said = run.end()
    assert status == 0, said
    assert "[gw1] host2 does not answer: its work goes on at host1" in said
    assert "12 passed" in said
    assert "failed" not in said
    assert tasks.statuses() == {f"t{n}": "passed" for n in range(12)}
    workers = {line["worker"] for line in tasks.lines("results.jsonl")}
    assert {"gw0@host1"} < workers <= {"gw0@host1", "gw1@host2", "gw2@host1"}
    assert len(tasks.lines("commands.jsonl")) == 12
    assert tasks.summary()["complete"] is True
    assert left(hosts, 1) == ""
    log = (tasks.output / "debug.log").read_text()
    assert "host2 does not answer" in log
    assert " gw0 " in log  # lines from there
    status, said = Started(tasks, hosts, hosts.spec(1), "--shelleval-resume").end()
    assert status == 0, said
    assert "12 replayed from an earlier run" in said
