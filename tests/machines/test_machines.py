"""What is done for workers on other machines, as far as one machine can show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import execnet
import pytest

from pytest_shelleval.adapter.distributed import lost
from pytest_shelleval.adapter.distributed.arrival import packed, unpacked
from pytest_shelleval.adapter.distributed.folder import SharedFolder
from pytest_shelleval.adapter.distributed.specs import is_near, machine_of, parsed, watched
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.settings import resolve as options

GROUP: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_last_to_leave_removes_the_folder() -> None:
    removed: list[Path] = []
    one, two = SharedFolder("run", removed.append), SharedFolder("run", removed.append)
    other = SharedFolder("another run", removed.append)
    assert one.path == two.path != other.path
    assert one.path.stat().st_mode & 0o777 == 0o700
    one.leave()
    one.leave()
    assert (two.path / "snapshots").is_dir()
    assert removed == []
    two.leave()
    assert removed == [one.path]
    assert not one.path.exists()
    assert other.path.exists()


def test_the_folder_of_a_killed_worker_goes_with_the_next_run(tmp_path: Path) -> None:
    text = (
        f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}; import os, signal\n"
        "from pytest_shelleval.adapter.distributed.folder import SharedFolder\n"
        "SharedFolder('killed'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", text], check=False, cwd=Path(__file__).parents[2])
    (left,) = tmp_path.iterdir()
    SharedFolder("next")
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_what_another_user_left_is_not_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / f"shelleval-{os.geteuid()}-trap"
    folder.mkdir()
    (folder / "users").touch()
    os.chown(folder, 65534, 65534)
    removed: list[Path] = []
    SharedFolder("run", removed.append).leave()
    assert removed == [tmp_path / f"shelleval-{os.geteuid()}-run"]
    assert os.listdir(folder) == ["users"]


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"shelleval-{os.geteuid()}-run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError):
        SharedFolder("run")


def test_settings_arrive_as_they_were_but_for_the_key_of_the_models_server(tmp_path: Path) -> None:
    flags = {
        "shelleval_dataset": ["a.jsonl", "b.jsonl"],
        "shelleval_extra_body": '{"top_p": 1, "stop": ["x"]}',
        "shelleval_api_key": "the-secret",
        "shelleval_rootfs": "tree",
        "shelleval_base_url": "http://user:top-secret@host/v1",
    }
    settings = options.resolve(flags, {"OPENAI_API_KEY": "the-secret"}, lambda name: "", tmp_path)
    text = json.dumps(packed(settings))
    assert "secret" not in text
    found = unpacked(json.loads(text))
    assert found.rootfs == tmp_path / "tree"
    names = set(settings.__dataclass_fields__) - {"api_key", "base_url"}
    assert all(getattr(found, name) == getattr(settings, name) for name in names)


def test_which_machine_a_worker_is_for() -> None:
    texts = ["2*popen", "ssh=-p 22 a//python=p", "socket=b:8888", "popen//via=p", "popen//chdir=x"]
    specs = parsed(texts)
    assert [machine_of(spec) for spec in specs] == ["", "", "-p 22 a", "b", "via=p", ""]
    assert [is_near(spec) for spec in specs] == [True, True, False, False, False, True]


def test_ssh_is_told_to_notice_a_cut_unless_the_user_has(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host b\n  ServerAliveInterval 7\n  ConnectTimeout 7\n")
    more = f"//ssh_config={config}//python=p"
    text = watched(f"3*ssh=a{more}")
    assert text.startswith("3*ssh=-o ServerAliveInterval=10 -o ConnectTimeout=15 a//")
    assert [machine_of(spec) for spec in parsed([text])] == ["a"] * 3
    for unchanged in (f"ssh=b{more}", "2*popen", "socket=a:1"):
        assert watched(unchanged) == unchanged


def test_a_lost_worker_is_replaced_where_there_are_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answers(spec: execnet.XSpec, group: object) -> bool:
        asked.append(machine_of(spec))
        return spec.ssh not in ("a", "b")

    monkeypatch.setattr(lost, "answers", answers)
    known = lost.Lost()
    places = parsed(["ssh=a", "ssh=b", "2*ssh=c", "3*ssh=d", "socket=e:1"])
    assert known.is_gone(places[0], GROUP)
    other = known.other_place(places, {"b": 1, "c": 2, "d": 3}, GROUP)
    assert other is not None
    assert other.ssh == "c"
    assert known.is_gone(places[1], GROUP)
    assert asked == ["a", "b", "c"]  # each that is gone once
    assert known.other_place(places[:2], {}, GROUP) is None


def test_how_often_a_task_may_lose_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "answers", lambda spec, group: spec.ssh != "gone")
    known = lost.Lost()
    assert known.is_gone(parsed(["ssh=gone"])[0], GROUP)
    assert [known.worth_another("t1", "") for _ in range(2)] == [True, False]
    assert [known.worth_another("t2", "gone") for _ in range(3)] == [True, True, False]
    assert [known.worth_another("t3", each) for each in ("gone", "a", "a")] == [True, True, False]
