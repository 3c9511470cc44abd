"""Reads the text of a row without running it: gives hints and advice, not proof."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pytest_shelleval.core.snapshots import repeatable
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.validation.shell import Call, calls, last_call

_LOCAL = re.compile(
    r"\blocalhost\b|\b127\.\d+\.\d+\.\d+\b|\[?::1\b|\b0\.0\.0\.0\b|\bfile://|/dev/tcp/localhost"
)
_URL = re.compile(r"\b(?:https?|ftp|ssh|git|rsync)://(?!localhost|127\.|\[::1|0\.0\.0\.0)[^\s'\"]+")
_REMOTE = re.compile(r"^(?:[\w.-]+@)?[\w.-]+:(?!\\)|://")
_SOCKET = re.compile(r"/dev/(?:tcp|udp)/(?!localhost|127\.)[\w.$-]+/")
_ASKS_FOR_HELP = frozenset(("--help", "--version", "-V", "-h", "help"))
_NETWORK = frozenset(
    """curl wget ssh scp sftp ftp lftp telnet ping ping6 traceroute tracepath nslookup dig whois nc
    ncat netcat aria2c http youtube-dl""".split()  # noqa: SIM905
)
_FETCHES: dict[str, frozenset[str]] = {
    name: frozenset(verbs.split())
    for names, verbs in (
        ("apt apt-get aptitude", "install update upgrade dist-upgrade full-upgrade build-dep"),
        ("yum dnf microdnf zypper brew snap", "install update upgrade refresh"),
        ("apk", "add update upgrade"),
        ("pip pip3 pipx uv conda mamba", "install download"),
        ("npm pnpm yarn bun", "install i ci add"),
        ("gem cargo go", "install get fetch"),
        ("docker podman", "pull run build"),
        ("svn hg", "checkout clone"),
    )
    for name in names.split()
}
_CLOCK = re.compile(
    r"\$\{?EPOCH(?:SECONDS|REALTIME)\b|%\([^)]*\)T|\b(?:datetime\.(?:now|today|utcnow)|date\.today|"
    r"time\.time|time\.localtime|time\.gmtime|systime|localtime)\("
)
_RELATIVE = re.compile(
    r"\b(?:ago|now|today|yesterday|tomorrow|next|last)\b|[+-]\s*\d+\s*(?:sec|min|hour|day|week|month|year)"
)
_CHANCE = re.compile(
    r"\bS?RANDOM\b|/dev/u?random|\bshuf\b|\b(?:import|from) random\b|\brand\(|\buuidgen\b|"
    r"\bsrand\b|%N\b"
)
_FILE_READERS = frozenset(
    """. [ [[ bash cat cd chmod chown cmp cut diff du file find head less ls md5sum nl od
    paste python python3 sh sha1sum sha256sum sort source stat tac tail tar test uniq
    unzip wc xxd zcat zip gunzip gzip comm join jq""".split()  # noqa: SIM905
)
_COPIERS = frozenset(("cp", "install", "ln", "mv", "rsync"))  # the last operand is made
_PATTERN_READERS = frozenset(("grep", "egrep", "fgrep", "zgrep", "sed", "awk", "gawk", "mawk"))
_WHOLE_PATH = re.compile(r"/[\w.@+,-][\w./@+,-]*")
# What belongs to the system itself, inside and outside of sandboxes.
_SYSTEM = re.compile(
    r"/(?:bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|tmp|usr|var|root|home/shellm)(?:/|$)"
)
_HOST_SOFTWARE = re.compile(r"/usr/(?:share|include|src|games|local/share|local/src)/.")
_HOST_FOLDER = re.compile(
    r"/(?:bin|sbin|etc|lib|lib64|usr|usr/(?:bin|sbin|lib|share|local|include))/?"
)
_ALWAYS = frozenset(("true", ":", "echo", "printf"))  # succeed


def texts_of(task: Task) -> Iterator[tuple[str, str]]:
    """Each shell text of *task* with its name: ``setup``, ``gold command``, ``condition``."""
    for text in task.setup_commands:
        yield "setup", text
    if task.gold_command is not None:
        yield "gold command", task.gold_command
    yield "condition", task.success_condition


def network_call(text: str) -> str:
    """The first call in *text* that needs the network, verbatim; empty if there is none."""
    socket = _SOCKET.search(text)
    if socket:
        return socket[0]
    local = bool(_LOCAL.search(text)) and not _URL.search(text)
    for call in calls(text):
        if _leaves(call, local):
            return " ".join((call.program, *call.words))[:60]
    return ""


def _leaves(call: Call, local: bool) -> bool:
    """Whether *call* needs a network; *local*: whether the text refers to this machine only."""
    words = call.words
    if not words or _ASKS_FOR_HELP.intersection(words) or "--no-index" in words:
        return False
    if call.program in _NETWORK:
        return not local
    if call.program == "git":
        return words[0] in ("clone", "ls-remote") and any(map(_REMOTE.search, words[1:]))
    if call.program == "rsync":
        return any(map(_REMOTE.search, words))
    if call.program in ("python", "python3") and words[:2] == ("-m", "pip"):
        return "install" in words
    verbs = _FETCHES.get(call.program)
    if verbs is None:
        return False
    operands = [word for word in words if not word.startswith("-")]
    verb, *rest = operands or [""]
    return verb in verbs and not (rest and all(word.startswith((".", "/")) for word in rest))


def uses_sudo(text: str) -> bool:
    """Whether *text* calls sudo or doas."""
    return any(call.program in ("sudo", "doas") for call in calls(text))


def clock_call(text: str) -> str:
    """The part of *text* that reads the current time; empty if there is none."""
    found = _CLOCK.search(text)
    if found:
        return found[0]
    for call in calls(text):
        if call.program == "date" and _tells_now(call.words):
            return " ".join((call.program, *call.words))[:60]
    return ""


def _tells_now(words: Sequence[str]) -> bool:
    for number, word in enumerate(words):
        if re.match(r"-[a-zA-Z]*[rfs]|--(?:reference|file|set)", word):
            return False
        if re.match(r"-[a-zA-Z]*d|--date", word):
            given = " ".join(words[number : number + 2])
            return bool(_RELATIVE.search(given)) and not re.search(r"\d{4}-\d|\d{8}|@\d|\$", given)
    return True


def may_vary(task: Task) -> tuple[bool, bool]:
    """Whether *task* depends on the clock, and whether it depends on randomness."""
    texts = [text for _, text in texts_of(task)]
    return not repeatable(texts), any(map(_CHANCE.search, texts))


def host_paths(task: Task) -> tuple[list[str], list[str]]:
    """Paths that *task* reads and that may exist on the author's machine only.

    First those outside the system's directories, such as ``/home/alice/x`` or ``/mnt/data``: a
    sandbox has to show whether they exist. Then those of installed software and of whole system
    directories (``/usr/share/dict/words``, ``/usr/bin``) that the setup does not name, which differ
    from machine to machine.
    """
    made_here = " ".join(task.setup_commands)
    absent: dict[str, None] = {}
    installed: dict[str, None] = {}
    for name, text in texts_of(task):
        for call in calls(text):
            for path in _paths_read(call):
                if not _SYSTEM.match(path):
                    absent[path] = None
                elif name != "setup" and path in made_here:
                    continue
                elif _HOST_SOFTWARE.match(path) or _is_host_folder(call, path):
                    installed[path] = None
    return list(absent), list(installed)


def _is_host_folder(call: Call, path: str) -> bool:
    return call.program in ("ls", "find", "du", "tar") and bool(_HOST_FOLDER.fullmatch(path))


def _paths_read(call: Call) -> Iterator[str]:
    """Operands of *call* that are absolute paths, in places where it expects a file."""
    words = list(call.words)
    if call.program in _PATTERN_READERS:
        words = [word for word in words if not word.startswith("-")][1:]
    elif call.program in ("[", "[[", "test"):
        words = [b for a, b in pairwise(words) if re.fullmatch("-[a-zA-Z]", a)]
    elif call.program == "find":  # the start points come first
        words = words[: next((n for n, w in enumerate(words) if w[:1] in ("-", "(", "!")), None)]
    elif call.program in _COPIERS:
        words = words[:-1]
    elif call.program not in _FILE_READERS:
        words = [call.program] if "/" in call.program else []
    for word in (*words, *call.reads):
        if _WHOLE_PATH.fullmatch(word):
            yield word.rstrip("/")


def why_it_never_fails(condition: str) -> str:
    """Why *condition* always succeeds, if its end shows it; else empty."""
    operator, last = last_call(condition) or ("", None)
    if last is None or operator == "&&":
        return ""
    ending = " ".join((last.program, *last.words))[:40]
    if last.program in _ALWAYS or (last.program == "exit" and last.words[:1] == ("0",)):
        return f"it ends in `{'' if operator == ';' else operator + ' '}{ending}`"
    return ""


def why_it_never_passes(condition: str) -> str:
    """Why *condition* always fails, if its end shows it; else empty."""
    operator, last = last_call(condition) or ("", None)
    if last is None or operator == "||":
        return ""
    code = last.words[0] if last.program == "exit" and last.words else "0"
    if last.program == "false" or (code.isdigit() and int(code) % 256):
        return f"it ends in `{' '.join((last.program, *last.words))[:40]}`"
    return ""
