"""Files stay valid line by line, whatever happens to their writer."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import (
    JsonLinesReader,
    JsonLinesWriter,
    locked,
    read_json_lines,
    replace_file,
)


def records(path: Path) -> list[object]:
    return [record for _, record in read_json_lines(path)]


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    for number in range(2):
        with JsonLinesWriter(path) as writer:
            writer.write({"n": number, "text": "grün\n\x00"})
    assert records(path) == [{"n": n, "text": "grün\n\x00"} for n in (0, 1)]


def test_closing_twice_closes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "read").write_text("{}\n")
    files = [JsonLinesWriter(tmp_path / "written"), JsonLinesReader(tmp_path / "read")]
    closed: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", closed.append)
        for file in files * 2:
            file.close()
    assert len(closed) == 2
    for descriptor in closed:
        os.close(descriptor)


def test_a_lone_surrogate_is_kept(tmp_path: Path) -> None:
    with JsonLinesWriter(tmp_path / "x") as writer:
        writer.write({"text": "\ud800"})
    assert records(tmp_path / "x") == [{"text": "\ud800"}]


@pytest.mark.parametrize("tail", ['{"n": 2, "te', '{"n": 2}', "", "x" * 200_000])
def test_a_cut_last_line_is_mended_before_appending(tail: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"n": 1}\n' + tail)
    with JsonLinesWriter(path) as writer:
        writer.write({"n": 3})
    expected = [1, 2, 3] if tail == '{"n": 2}' else [1, 3]
    assert records(path) == [{"n": n} for n in expected]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_cut_last_line_is_passed_over_when_reading(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"n": 1}\n\n{"n": ')
    assert records(tmp_path / "x") == [{"n": 1}]


def test_broken_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"n": 1}\nbroken\n[]\n{"n": 2}\n')
    seen = []
    with pytest.raises(UserError) as caught:
        seen += [record for _, record in read_json_lines(path)]
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{path}:2: not JSON")
    assert second == f"{path}:3: a JSON object is expected on every line"


@pytest.mark.parametrize("line", ["broken", "[" * 100_000, ""])
def test_a_line_that_is_no_longer_what_it_was_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"n": 1}\n' + line + "\n")
    reader = JsonLinesReader(path)
    assert reader.read(0) == {"n": 1}
    with pytest.raises(UserError, match=rf"can't read {path}: "):
        reader.read(9)
    reader.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with JsonLinesWriter(path) as writer:
        writer.write({"n": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
        try:
            with pytest.raises(UserError, match="File too large"):
                writer.write({"text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        writer.write({"n": 2})
    assert records(path) == [{"n": 1}, {"n": 2}]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    replace_file(path, "old")
    replace_file(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe"])
def test_what_others_put_in_a_files_place_is_left_alone(
    kind: str, follow: bool, tmp_path: Path
) -> None:
    path, target = tmp_path / "x.jsonl", tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
        if follow:
            if os.geteuid() != 0:
                pytest.skip("only root can make a link of another user's")
            os.chown(path, 65534, 65534, follow_symlinks=False)
    if kind == "link":
        target.write_text("no newline at its end")
    with pytest.raises(UserError, match=r"can't write .*x\.jsonl: it is .*; remove it"):
        JsonLinesWriter(path, follow=follow)
    if kind != "pipe":
        with pytest.raises(OSError, match="it is a symbolic link"), locked(path):
            pass
        assert not target.exists() if kind != "link" else target.read_text()[-3:] == "end"
        replace_file(path, "new")
        assert not path.is_symlink()
        assert not target.exists() if kind != "link" else target.read_text()[-3:] == "end"


def test_a_link_of_ones_own_is_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "x").symlink_to("deep/y")
    (tmp_path / "deep/y").symlink_to("z")
    with JsonLinesWriter(tmp_path / "x", follow=True) as writer:
        writer.write({"n": 1})
    assert records(tmp_path / "deep/z") == [{"n": 1}]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"can't write .*loop: Too many levels"):
        JsonLinesWriter(tmp_path / "loop", follow=True)


def test_what_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write .*file/x"):
        replace_file(tmp_path / "file" / "x", "")
    with pytest.raises(UserError, match=r"can't write .*file/x"):
        JsonLinesWriter(tmp_path / "file" / "x")
