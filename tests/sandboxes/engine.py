"""A Docker engine of the tests' own, and an image made of the host's own files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

IMAGE = "shelleval-sandbox:latest"
PACKAGES = [
    *("base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils"),
    *("diffutils", "findutils", "gawk", "mawk", "grep", "gzip", "hostname", "jq", "libc-bin"),
    *("login", "mount", "ncurses-base", "ncurses-bin", "passwd", "perl-base", "procps", "sed"),
    *("tar", "util-linux", "util-linux-extra", "bc", "file", "bzip2", "xz-utils"),
    *("libpam-modules", "libpam-modules-bin", "libpam-runtime", "libpam0g", "libc6"),
    *("adduser", "acl", "psmisc"),
]
MORE_PACKAGES = [
    *("python3", "python3-minimal", "python3.11", "python3.11-minimal", "libpython3-stdlib"),
    *("libpython3.11-stdlib", "libpython3.11-minimal", "perl", "perl-modules-5.36", "git"),
    *("gcc-12", "make", "cron", "at", "zip", "unzip", "lsof", "less", "tree", "curl"),
    *("openssl",),
]
SKIPPED = (
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
    "/usr/share/info",
    "/usr/lib/gcc",
)
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def why_not() -> str:
    """Why no engine can be started here, or an empty string."""
    if os.geteuid() != 0:
        return "starting a Docker engine takes root"
    for program in ("dockerd", "containerd", "runc", "dpkg-query", "ldd"):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install docker.io)"
    return ""


@contextlib.contextmanager
def running_engine() -> Iterator[str]:
    """A Docker engine: its address. Raises RuntimeError with what it said when it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="shelleval-engine-"))
    address = f"unix://{folder}/docker.sock"
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(
            [
                *("dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec"),
                *("-H", address, "--pidfile", folder / "pid", "--bridge=none", "--iptables=false"),
                *("--ip6tables=false", "--ip-forward=false"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(engine, address, folder / "log")
        yield address
    finally:
        engine.send_signal(signal.SIGTERM)
        try:
            engine.wait(30)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()
        for _ in range(50):  # mounts of containers go a moment later
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)


def _wait_for(engine: subprocess.Popen[bytes], address: str, log: Path) -> None:
    import docker

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if engine.poll() is not None:
            break
        with contextlib.suppress(Exception):
            client = docker.DockerClient(base_url=address, version="auto", timeout=10)
            client.ping()
            client.close()
            return
        time.sleep(0.1)
    raise RuntimeError("dockerd did not start: " + log.read_text()[-2000:])


def import_image(address: str, *, more: bool = False) -> str:
    """Make the image from files of the host: its name. It has the usual tools; with *more* Python, Perl, git and their like."""
    import docker

    with tempfile.TemporaryDirectory(prefix="shelleval-image-") as temporary:
        root = Path(temporary)
        _copy(_files(PACKAGES + (MORE_PACKAGES if more else [])), root)
        _complete(root)
        archive = root.parent / f"{root.name}.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        try:
            client = docker.DockerClient(base_url=address, version="auto", timeout=300)
            repository, _, tag = IMAGE.partition(":")
            client.api.import_image_from_file(
                str(archive), repository=repository, tag=tag, changes=["WORKDIR /home/shellm"]
            )
            client.close()
        finally:
            archive.unlink()
    return IMAGE


def _files(packages: list[str]) -> set[str]:
    installed = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    names = [line.split()[0] for line in installed.splitlines() if line.endswith(" installed")]
    listed = subprocess.run(["dpkg", "-L", *names], capture_output=True, text=True, check=True)
    files = {
        line
        for line in listed.stdout.splitlines()
        if line.startswith("/") and not line.startswith(SKIPPED) and os.path.lexists(line)
    }
    files |= {link for link in _alternatives() if os.path.realpath(link) in files}
    programs = [
        file
        for file in files
        if os.path.isfile(file) and (os.access(file, os.X_OK) or ".so" in file)
    ]
    for start in range(0, len(programs), 200):
        said = subprocess.run(
            ["ldd", *programs[start : start + 200]], capture_output=True, text=True, check=False
        ).stdout
        files |= {word for word in said.split() if word.startswith("/") and not word.endswith(":")}
    return files | {os.path.realpath(file) for file in files if os.path.islink(file)}


def _alternatives() -> set[str]:
    folder = Path("/etc/alternatives")
    found = {str(link) for link in folder.iterdir()} if folder.is_dir() else set()
    return found | {
        str(link)
        for place in ("/usr/bin", "/usr/sbin")
        for link in Path(place).iterdir()
        if link.is_symlink() and os.readlink(link).startswith("/etc/alternatives/")
    }


def _copy(files: set[str], root: Path) -> None:
    for name, target in LINKS.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    names = sorted({_real_place(file) for file in files})
    wanted = "\0".join(name.lstrip("/") for name in names if name != "/")
    pack = subprocess.Popen(
        ["tar", "-C", "/", "--no-recursion", "--null", "-T", "-", "-cf", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    unpack = subprocess.Popen(["tar", "-C", root, "-xpf", "-"], stdin=pack.stdout)
    assert pack.stdin
    pack.stdin.write(wanted.encode())
    pack.stdin.close()
    if unpack.wait() or pack.wait():
        raise RuntimeError("the host's files could not be copied")


def _real_place(file: str) -> str:
    """/bin/sh is /usr/bin/sh where /bin is a link."""
    first, _, rest = file.lstrip("/").partition("/")
    return f"/{LINKS[first]}/{rest}".rstrip("/") if first in LINKS else file


def _complete(root: Path) -> None:
    for name in (
        *("etc/pam.d", "home/shellm", "root", "tmp", "var/tmp", "var/log", "run", "proc", "sys"),
        *("usr/local/bin", "usr/local/sbin", "usr/local/lib", "opt", "srv", "mnt", "media"),
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name in (
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "nsswitch.conf",
        "pam.d",
        "login.defs",
    ):
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, dirs_exist_ok=True, symlinks=True)
        elif source.exists():
            shutil.copy2(source, root / "etc" / name)
    master = Path("/usr/share/base-passwd")
    shutil.copy2(master / "passwd.master", root / "etc/passwd")
    shutil.copy2(master / "group.master", root / "etc/group")
    passwd = root / "etc/passwd"
    passwd.write_text(passwd.read_text().replace("root:*:0:0:root:/root", "root:x:0:0:root:/root"))
    for name in ("shadow", "gshadow"):
        source = root / "etc" / ("passwd" if name == "shadow" else "group")
        tail = "*:19000:0:99999:7:::" if name == "shadow" else "*::"
        lines = [f"{line.split(':')[0]}:{tail}\n" for line in source.read_text().splitlines()]
        target = root / "etc" / name
        target.write_text("".join(lines))
        target.chmod(0o640)
