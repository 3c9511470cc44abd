"""The local sandbox on a root file system of the user's choice, as root and as an ordinary user."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from local_users import ORDINARY, make_provider, unavailable

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.image import folder_of
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


# --- tars that mean harm


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Any:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def unpack(path: Path, members: Iterable[tuple[Any, bytes]]) -> Path:
    """A tar of *members* as a sandbox's root: the folder that it is unpacked to."""
    with tarfile.open(path, "w") as archive:
        for each, content in members:
            each.size = len(content)
            archive.addfile(each, io.BytesIO(content))
    return folder_of(path)


BASH = (member("bin/bash", mode=0o755), b"#!")
HARMFUL = {
    "through a link": [member("out", tarfile.SYMTYPE, "{host}"), member("out/secret")],
    "through a relative link": [member("a/out", tarfile.SYMTYPE, "{up}"), member("a/out/secret")],
    "a folder through a link": [
        member("out", tarfile.SYMTYPE, "{host}"),
        member("out/new", tarfile.DIRTYPE, mode=0o777),
    ],
    "a link through a link": [
        member("out", tarfile.SYMTYPE, "{host}"),
        member("out/new", tarfile.SYMTYPE, "/"),
    ],
    "upwards": [member("../{part}/secret")],
    "hard": [member("own", tarfile.LNKTYPE, "{host}/secret", 0o666)],
    "hard, relative": [member("own", tarfile.LNKTYPE, "{up}/secret", 0o666)],
    "hard, through a link": [
        member("out", tarfile.SYMTYPE, "{host}"),
        member("own", tarfile.LNKTYPE, "out/secret", 0o666),
    ],
    "a file for a folder": [member("a/b"), member("a", tarfile.SYMTYPE, "{host}")],
}
REPLACED = {
    "a file over a link": [member("out", tarfile.SYMTYPE, "{host}/secret"), member("out")],
    "a file over a link to nothing": [member("out", tarfile.SYMTYPE, "{host}/new"), member("out")],
    "a folder over a link": [
        member("out", tarfile.SYMTYPE, "{host}"),
        member("out", tarfile.DIRTYPE, mode=0o777),
    ],
    "a file over a hard link to a link": [
        member("out", tarfile.SYMTYPE, "{host}/secret"),
        member("own", tarfile.LNKTYPE, "out", 0o666),
        member("own"),
    ],
    "the mode of a hard link to a link": [
        member("out", tarfile.SYMTYPE, "{host}/secret"),
        member("own", tarfile.LNKTYPE, "out", 0o666),
    ],
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that no tar may touch, and that is looked at when the test has ended."""
    folder = tmp_path / "host"
    folder.mkdir(0o700)
    (folder / "secret").write_text("mine")
    (folder / "secret").chmod(0o600)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    secret = (folder / "secret").lstat()
    assert (secret.st_mode & 0o7777, secret.st_nlink) == (0o600, 1)
    assert folder.lstat().st_mode & 0o7777 == 0o700
    assert (folder / "secret").read_text() == "mine"
    assert os.listdir(folder) == ["secret"]


def written(host: Path, members: Sequence[Any]) -> list[tuple[Any, bytes]]:
    """*members* with the host's paths in them, and content where they have some."""
    up = "../" * 12 + str(host)[1:]  # from wherever it is unpacked
    made = [BASH]
    for each in members:
        name, link = (text.format(host=host, up=up, part=up) for text in (each.name, each.linkname))
        changed = member(name, each.type, link, each.mode)
        made.append((changed, b"stolen" if each.isreg() else b""))
    return made


@pytest.mark.parametrize("name", HARMFUL)
def test_a_tar_that_leads_outside(name: str, host: Path, tmp_path: Path) -> None:
    members = written(host, HARMFUL[name])
    with pytest.raises(SandboxUnavailable) as refused:
        unpack(tmp_path / "evil.tar", members)
    assert str(tmp_path / "evil.tar") in str(refused.value)
    if name != "a file for a folder":  # then it is the system that names the path
        assert f"the member {members[-1][0].name!r}" in str(refused.value)


@pytest.mark.parametrize("name", REPLACED)
def test_what_comes_later_takes_the_place_of_a_link(name: str, host: Path, tmp_path: Path) -> None:
    members = written(host, REPLACED[name])
    folder = unpack(tmp_path / "evil.tar", members)
    last, content = members[-1]
    made = folder / last.name
    if last.isdir():
        assert (made.is_symlink(), made.is_dir()) == (False, True)
    elif last.isreg():
        assert (made.is_symlink(), made.read_bytes()) == (False, content)


def test_devices_and_links_to_them_are_not_made(host: Path, tmp_path: Path) -> None:
    device = member("dev/sda", tarfile.BLKTYPE)
    folder = unpack(tmp_path / "a.tar", [BASH, (device, b"")])
    assert not (folder / "dev/sda").exists()
    linked = (member("sda", tarfile.LNKTYPE, "dev/sda"), b"")
    with pytest.raises(SandboxUnavailable, match="'sda', a hard link to 'dev/sda', comes"):
        unpack(tmp_path / "b.tar", [BASH, (device, b""), linked])


def test_names_that_only_look_harmful(host: Path, tmp_path: Path) -> None:
    members = [
        *(BASH, (member("/etc/..data"), b"a"), (member("./etc/x/../of-the-tar"), b"b")),
        (member("etc/mtab", tarfile.SYMTYPE, "/proc/mounts"), b""),
        (member("etc/same", tarfile.LNKTYPE, "/etc/of-the-tar"), b""),
        (member("etc/of-the-tar"), b"as appended to the tar"),
    ]
    etc = unpack(tmp_path / "fine.tar", members) / "etc"
    assert sorted(os.listdir(etc)) == ["..data", "mtab", "of-the-tar", "same"]
    assert (etc / "of-the-tar").read_text() == "as appended to the tar"
    assert (etc / "same").read_text() == "b"
    assert os.readlink(etc / "mtab") == "/proc/mounts"


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz"])
def test_half_a_tar(ending: str, host: Path, tmp_path: Path) -> None:
    path = tmp_path / f"half.{ending}"
    with tarfile.open(path, f"w:{ending[4:]}") as archive:
        noise = member("noise")
        noise.size = 200_000
        archive.addfile(noise, io.BytesIO(os.urandom(noise.size)))
    os.truncate(path, 100_000)
    with pytest.raises(SandboxUnavailable, match=r"half\.tar.* can't be used"):
        folder_of(path)
