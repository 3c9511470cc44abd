"""A fault in mid-run: every file stays valid, nothing is lost or there twice, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plugin.test_faults import count, start, wait_until
from tests.support import ROWS, Evaluation

TASKS = 8
ORACLE = "--shelleval-model=oracle"
RESUME = "--shelleval-resume"
MARK = f"0.1{os.getpid():07d}"  # in the arguments of every command that a task here runs


class Disturbed(Evaluation):
    """A run of :data:`TASKS` tasks of 0.1 s, whose processes and temporary files can be told."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(pytester, monkeypatch)
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(self.temporary))
        command = f"sleep {MARK}; " + ROWS[0]["gold_command"]
        self.rows(*[{**ROWS[0], "task_id": f"t{n}", "gold_command": command} for n in range(TASKS)])

    @property
    def results(self) -> Path:
        return self.output / "results.jsonl"

    def processes(self) -> dict[int, tuple[str, bytes]]:
        """Name and arguments of each process of this run, by id."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                ours = f"={self.temporary}\0".encode() in environment or MARK.encode() in arguments
                if ours and arguments and int(entry.name) != os.getpid():
                    found[int(entry.name)] = (entry / "comm").read_text().strip(), arguments
            except OSError:
                continue
        return found

    def check(self, done: set[str]) -> None:
        """See that all is in order when the run has ended that had written the results *done*."""
        for name in ("commands.jsonl", "results.jsonl", "results.earlier.jsonl"):
            lines = self.lines(name)  # parses every line
            assert len({line["task_id"] for line in lines}) == len(lines)
        assert done <= self.recorded()
        deadline = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left
        assert str(self.temporary) not in Path("/proc/self/mountinfo").read_text()

    def recorded(self) -> set[str]:
        """Ids of tasks whose result stands in results.jsonl, whole."""
        text = self.results.read_text() if self.results.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return {json.loads(line)["task_id"] for line in lines}

    def finish(self) -> None:
        """The next run finishes the work."""
        done = self.recorded()
        self.run(ORACLE, RESUME, "-n", "0")
        assert self.statuses() == {f"t{n}": "passed" for n in range(TASKS)}
        self.check(done)
        assert self.summary()["complete"] is True
        assert list(self.temporary.iterdir()) == []  # also what the one before could not remove


@pytest.fixture
def disturbed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Disturbed:
    return Disturbed(pytester, monkeypatch)


def in_mid_run(run: Disturbed, *args: str) -> subprocess.Popen[bytes]:
    process = start(run, ORACLE, "--shelleval-fail-under=0", *args)
    wait_until(lambda: count(run.results) >= 2, process)
    return process


def children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("part", ["worker", "zygote", "init"])
def test_a_part_is_killed(disturbed: Disturbed, part: str) -> None:
    process = in_mid_run(disturbed, "-n", "2")
    (worker, *_) = children(process.pid)
    (zygote, *_) = children(worker)
    init = next((pid for pid in children(zygote) if name_of(pid) == "init"), zygote)
    done = disturbed.recorded()
    os.kill({"worker": worker, "zygote": zygote, "init": init}[part], signal.SIGKILL)
    assert process.wait(60) in (0, 1)
    disturbed.check(done)
    statuses = list(disturbed.statuses().values())
    assert len(statuses) == TASKS, statuses
    assert "failed" not in statuses
    # what a worker was running has no result of its own; other parts are replaced
    assert statuses.count("error") <= (part == "worker")
    if part == "worker":
        disturbed.finish()


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


SIGNALS = {
    "double Ctrl-C": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
    "SIGKILL": (signal.SIGKILL,),
}


@pytest.mark.parametrize("numbers", SIGNALS.values(), ids=SIGNALS)
def test_the_controller_is_ended(disturbed: Disturbed, numbers: tuple[signal.Signals, ...]) -> None:
    process = in_mid_run(disturbed, "-n", "2" if len(numbers) == 1 else "0")
    done = disturbed.recorded()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    assert process.wait(60) != 0
    disturbed.check(done)
    assert len(disturbed.statuses()) < TASKS
    disturbed.finish()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], None]]:
    mounted: list[Path] = []

    def mount(path: Path, options: str) -> None:
        path.mkdir(exist_ok=True)
        options = f"remount,{options}" if path in mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a file system takes root")
        mounted.append(path)

    yield mount
    for path in set(mounted):
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_the_disk_fills_up_below_the_results(
    disturbed: Disturbed, small_disk: Callable[[Path, str], None]
) -> None:
    small_disk(disturbed.output, "size=20k")
    done = disturbed.run(ORACLE, "-n", "0")
    assert done.ret != 0
    assert "No space left on device" in done.stdout.str() + done.stderr.str()
    assert "Traceback" not in done.stdout.str() + done.stderr.str()
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    assert not (disturbed.output / "report.html").exists()
    assert "report: " not in done.stdout.str()
    disturbed.check(set())
    small_disk(disturbed.output, "size=10m")
    disturbed.finish()


def test_results_can_not_be_written(
    disturbed: Disturbed, small_disk: Callable[[Path, str], None]
) -> None:
    small_disk(disturbed.output, "ro")
    done = disturbed.run(ORACLE, "-n", "2")
    assert done.ret == 4
    assert "Read-only file system" in done.stderr.str()
    assert "Traceback" not in done.stderr.str()
    disturbed.check(set())


def test_the_disk_is_full_below_the_temporary_folder(
    disturbed: Disturbed, small_disk: Callable[[Path, str], None]
) -> None:
    small_disk(disturbed.temporary, "size=4k,nr_inodes=1")
    done = disturbed.run(ORACLE, "-n", "0")
    # where TMPDIR can't be used Python takes the system's
    done.assert_outcomes(passed=TASKS)
    assert len(disturbed.statuses()) == TASKS
    assert not disturbed.processes()


def test_file_descriptors_run_out(disturbed: Disturbed) -> None:
    command = ["prlimit", "--nofile=24:24", *disturbed.command(ORACLE, "-n", "0")]
    done = disturbed.pytester.run(*command, timeout=60)
    assert "Traceback" not in done.stdout.str() + done.stderr.str()
    assert "failed" not in disturbed.statuses().values()
    disturbed.check(set())
    disturbed.finish()


def test_the_clock_jumps(disturbed: Disturbed) -> None:
    disturbed.pytester.makeconftest(
        """
        import itertools, time
        from datetime import datetime
        from pytest_shelleval.core import clock

        jumps = itertools.cycle([0, 4e9, 1e9])
        time.time = lambda: next(jumps)

        class Jumping(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(next(jumps), tz)

        clock.datetime = Jumping
        """
    )
    disturbed.run(ORACLE, "-n", "0").assert_outcomes(passed=TASKS)
    for line in disturbed.lines("results.jsonl"):
        assert 0 <= line["durations"]["command"] < 60
    disturbed.check({f"t{n}" for n in range(TASKS)})
