"""The local sandbox on a root file system of the user's choice, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_users import ORDINARY, make_provider, unavailable

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.provider import LocalProvider

PROGRAMS = [
    "bash",
    "sh",
    "ls",
    "cat",
    "id",
    "stat",
    "mkdir",
    "rm",
    "ln",
    "chmod",
    "chown",
    "touch",
    "hostname",
    "env",
    "sleep",
]
LIMITS = Limits(memory=300 << 20, disk=32 << 20, processes=64)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A small system made of the host's own files."""
    if unavailable():
        pytest.skip(unavailable())
    # where an ordinary user may look: pytest's own folders are closed under xdist
    folder_of_all = Path(tempfile.mkdtemp(prefix="image-"))
    folder_of_all.chmod(0o755)
    root = folder_of_all / "root"
    for folder in ("usr/bin", "etc", "tmp", "var", "opt"):
        (root / folder).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "tmp").chmod(0o1777)
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is None:
            continue
        shutil.copy(found, root / "usr/bin" / program)
        linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)
        for word in linked.stdout.split():
            if word.startswith("/"):
                target = root / word[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nkeeper:x:7:7::/:/bin/sh\n")
    (root / "etc/image").write_text("this one\n")
    (root / "opt/kept").write_text("kept\n")
    yield root
    shutil.rmtree(folder_of_all)


@pytest.fixture(scope="module")
def tar(image: Path) -> Path:
    path = image.parent / "image.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(image, ".")
    path.chmod(0o644)
    return path


@pytest.fixture(params=["self", "ordinary"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder where an ordinary user may look: pytest's own are closed under xdist."""
    folder = Path(tempfile.mkdtemp(prefix="rootfs-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["folder", "tar"])
def inside(
    request: pytest.FixtureRequest,
    user: str,
    image: Path,
    tar: Path,
    open_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    cache = open_folder / "cache"
    cache.mkdir()
    path = tar if request.param == "tar" else image
    if user == "ordinary":
        if os.geteuid() == 0:
            os.chown(cache, ORDINARY, ORDINARY)
            if path == image:  # what is to be written to has to be the user's own
                path = open_folder / "root"
                subprocess.run(["cp", "-a", image, path], check=True)
                subprocess.run(["chown", "-R", f"{ORDINARY}:{ORDINARY}", path], check=True)
        made = make_provider(user, LIMITS, rootfs=str(path), cache=str(cache))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        made = LocalProvider(LIMITS, rootfs=path)
    yield made.acquire()
    made.close()


def test_shows_the_image_alone(inside: Any, image: Path, user: str) -> None:
    assert Path(inside.info["rootfs"]).exists()
    run = inside.exec_session
    assert run("pwd; cat /etc/image; hostname; id -un", timeout=20).output.split("\n") == [
        "/home/shellm",
        "this one",
        "sandbox",
        "root",
        "",
    ]
    assert run("ls /etc; ls /usr/bin/python3 /usr/share", timeout=20).output.split()[:5] == [
        "hostname",
        "hosts",
        "image",
        "passwd",
        "resolv.conf",
    ]
    assert run("stat -c '%U %a' /tmp", timeout=20).output == "root 1777\n"
    changes = (
        "rm -r /opt && mkdir /opt && touch /opt/new /etc/x /usr/bin/y && rm /bin/ls && "
        "chmod 700 /usr/bin/env && echo x >> /etc/passwd && echo done"
    )
    assert run(changes, timeout=20).output == "done\n"
    assert (image / "opt/kept").exists()
    assert not (image / "etc/x").exists()
    assert inside.exec("[ -e /opt/new ] && [ ! -e /bin/ls ]", timeout=20).exit_code == 0


def test_effects_on_an_image(inside: Any) -> None:
    inside.exec("echo set > /opt/setup", timeout=20)
    inside.mark()
    text = "echo more >> /etc/image; rm /opt/kept; echo new > new; printf x > /bin/rm"
    assert inside.exec_session(text, timeout=20).exit_code == 0
    effects = inside.effects()
    listed = {kind: [each["path"] for each in effects[kind]] for kind in ("created", "changed")}
    assert listed == {"created": ["/home/shellm/new"], "changed": ["/etc/image", "/usr/bin/rm"]}
    assert [each["path"] for each in effects["deleted"]] == ["/opt/kept"]
    assert effects["tampered"] == ["/usr/bin/rm"]


def test_owners_of_the_image(image: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("owners can be given by root alone")
    os.chown(image / "etc/image", 7, 7)
    provider = LocalProvider(LIMITS, rootfs=image)
    try:
        seen = provider.acquire().exec("stat -c '%U %u' /etc/image", timeout=20).output
    finally:
        provider.close()
        os.chown(image / "etc/image", 0, 0)
    assert seen in ("keeper 7\n", "UNKNOWN 65534\n")


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar")
    for name, said in (("empty", "no /bin/bash"), ("text", "can't be used"), ("none", "No such")):
        provider = LocalProvider(LIMITS, rootfs=tmp_path / name)
        with pytest.raises(SandboxUnavailable, match=said):
            provider.acquire()


def test_a_tar_that_leads_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("out/written"))
    with pytest.raises(SandboxUnavailable, match="leads outside"):
        LocalProvider(LIMITS, rootfs=tmp_path / "evil.tar").acquire()
    assert not (tmp_path / "written").exists()
