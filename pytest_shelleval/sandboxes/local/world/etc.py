"""The /etc of a sandbox: its own accounts and names, and files that the host's tools need to start."""

from __future__ import annotations

import contextlib
import os
import stat

from pytest_shelleval.sandboxes.defaults import START_DIRECTORY

HOST_NAME = "sandbox"

# Harmless on every host: no accounts, no names, no addresses, no keys, no registries or mirrors.
_COPIED = (
    "adduser.conf",
    "alternatives",
    "bash_completion.d",
    "bindresvport.blacklist",
    "debian_version",
    "default/useradd",
    "deluser.conf",
    "ethertypes",
    "fonts",
    "gai.conf",
    "groff",
    "host.conf",
    "inputrc",
    "issue",
    "issue.net",
    "java*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libaudit.conf",
    "locale.alias",
    "login.defs",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "mime.types",
    "mke2fs.conf",
    "nanorc",
    "networks",
    "os-release",
    "pam.conf",
    "pam.d",
    "perl",
    "protocols",
    "python3*",
    "rpc",
    "screenrc",
    "security",
    "selinux/semanage.conf",
    "services",
    "skel",
    "ssl/certs/ca-certificates.crt",
    "ssl/openssl.cnf",
    "terminfo",
    "vim",
    "wgetrc",
    "xattr.conf",
)
_DEPTH = 4
_LARGEST = 1 << 20

# name, uid, gid, home, shell: the accounts that Debian and its derivatives have from the start.
_ACCOUNTS = (
    ("root", 0, 0, "/root", "/bin/bash"),
    ("daemon", 1, 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, 2, "/bin", "/usr/sbin/nologin"),
    ("sys", 3, 3, "/dev", "/usr/sbin/nologin"),
    ("sync", 4, 65534, "/bin", "/bin/sync"),
    ("games", 5, 60, "/usr/games", "/usr/sbin/nologin"),
    ("man", 6, 12, "/var/cache/man", "/usr/sbin/nologin"),
    ("lp", 7, 7, "/var/spool/lpd", "/usr/sbin/nologin"),
    ("mail", 8, 8, "/var/mail", "/usr/sbin/nologin"),
    ("news", 9, 9, "/var/spool/news", "/usr/sbin/nologin"),
    ("uucp", 10, 10, "/var/spool/uucp", "/usr/sbin/nologin"),
    ("proxy", 13, 13, "/bin", "/usr/sbin/nologin"),
    ("www-data", 33, 33, "/var/www", "/usr/sbin/nologin"),
    ("backup", 34, 34, "/var/backups", "/usr/sbin/nologin"),
    ("list", 38, 38, "/var/list", "/usr/sbin/nologin"),
    ("irc", 39, 39, "/run/ircd", "/usr/sbin/nologin"),
    ("_apt", 42, 65534, "/nonexistent", "/usr/sbin/nologin"),
    ("nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"),
    ("shellm", 0, 0, START_DIRECTORY, "/bin/bash"),
)
_GROUPS = (
    "root:0 daemon:1 bin:2 sys:3 adm:4 tty:5 disk:6 lp:7 mail:8 news:9 uucp:10 man:12 proxy:13 "
    "kmem:15 dialout:20 fax:21 voice:22 cdrom:24 floppy:25 tape:26 sudo:27 audio:29 dip:30 "
    "www-data:33 backup:34 operator:37 list:38 irc:39 src:40 shadow:42 utmp:43 video:44 sasl:45 "
    "plugdev:46 staff:50 games:60 users:100 nogroup:65534"
)
_PASSWORD_CHANGED = 19000

_PROFILE = """\
PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH
if [ "${PS1-}" ] && [ "${BASH-}" ] && [ -f /etc/bash.bashrc ]; then
  . /etc/bash.bashrc
fi
if [ -d /etc/profile.d ]; then
  for i in /etc/profile.d/*.sh; do
    if [ -r "$i" ]; then
      . "$i"
    fi
  done
  unset i
fi
"""
_BASHRC = """\
[ -z "$PS1" ] && return
shopt -s checkwinsize
PS1='\\u@\\h:\\w\\$ '
"""
_RESOLUTION = """\
passwd:         files
group:          files
shadow:         files
gshadow:        files
hosts:          files dns
networks:       files
protocols:      files
services:       files
ethers:         files
rpc:            files
"""
_FILES = {
    "hostname": f"{HOST_NAME}\n",
    "hosts": (
        f"127.0.0.1\tlocalhost\n127.0.1.1\t{HOST_NAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    ),
    "resolv.conf": "",
    "nsswitch.conf": _RESOLUTION,
    "profile": _PROFILE,
    "bash.bashrc": _BASHRC,
    "shells": "/bin/sh\n/bin/bash\n/usr/bin/bash\n/bin/rbash\n/usr/bin/rbash\n/bin/dash\n/usr/bin/dash\n",
    "environment": "",
    "fstab": "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n",
    "motd": "",
    "timezone": "Etc/UTC\n",
    "machine-id": "",
    "subuid": "",
    "sudoers": "root ALL=(ALL:ALL) NOPASSWD: ALL\n%sudo ALL=(ALL:ALL) ALL\n",
    "subgid": "",
}


def make(target: str) -> None:
    """Fill the empty directory *target*."""
    for name in (
        "default",
        "profile.d",
        "opt",
        "cron.d",
        "cron.daily",
        "ssl",
        "ssl/certs",
        "selinux",
    ):
        os.mkdir(f"{target}/{name}", 0o755)
    _copy_from_host(target)
    for name, text in {**_FILES, **_accounts()}.items():
        _write(f"{target}/{name}", text.encode())
    os.chmod(f"{target}/sudoers", 0o440)
    for name in ("shadow", "gshadow"):
        os.chmod(f"{target}/{name}", 0o640)
        with contextlib.suppress(OSError):  # one id only
            os.chown(f"{target}/{name}", 0, 42)
    os.symlink("/proc/mounts", f"{target}/mtab")
    os.symlink("/usr/share/zoneinfo/Etc/UTC", f"{target}/localtime")


def make_names(target: str) -> None:
    """Write the host names, as a container engine puts them into an image."""
    for name in ("hostname", "hosts", "resolv.conf"):
        _write(f"{target}/{name}", _FILES[name].encode())


def _accounts() -> dict[str, str]:
    groups = [group.split(":") for group in _GROUPS.split()]
    return {
        "passwd": "".join(
            f"{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n"
            for name, uid, gid, home, shell in _ACCOUNTS
        ),
        "shadow": "".join(
            f"{account[0]}:*:{_PASSWORD_CHANGED}:0:99999:7:::\n" for account in _ACCOUNTS
        ),
        "group": "".join(f"{name}:x:{gid}:\n" for name, gid in groups),
        "gshadow": "".join(f"{name}:*::\n" for name, _ in groups),
    }


def _write(path: str, content: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _copy_from_host(target: str) -> None:
    names = os.listdir("/etc")
    for pattern in _COPIED:
        if pattern.endswith("*"):
            for name in names:
                if name.startswith(pattern[:-1]):
                    _copy(f"/etc/{name}", f"{target}/{name}", _DEPTH)
        else:
            _copy(f"/etc/{pattern}", f"{target}/{pattern}", _DEPTH)


def _copy(source: str, target: str, depth: int) -> None:
    """Copy what everybody may read; leave out what can't be read."""
    try:
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISDIR(status.st_mode) and depth and status.st_mode & 0o5 == 0o5:
            os.mkdir(target, 0o755)
            for name in os.listdir(source):
                _copy(f"{source}/{name}", f"{target}/{name}", depth - 1)
        elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o4 and status.st_size <= _LARGEST:
            with open(source, "rb", buffering=0) as file:
                _write(target, file.read(_LARGEST))
            os.chmod(target, stat.S_IMODE(status.st_mode) & 0o755)
    except OSError:
        return
