"""Distinguishes shell text from prose, placeholders and other languages. Every function is linear."""

from __future__ import annotations

import re

_KNOWN = frozenset(
    """
    [ [[ (( { : . alias apk apt apt-get awk base64 basename bash bc bg bunzip2 bzip2 cal cargo case cat
    cd chattr chgrp chmod chown chroot cksum clear cmp column comm cp cpio cron crontab csplit curl cut
    date dd declare df diff dig dir dirname dmesg dnf docker dos2unix du echo ed egrep env eval exec
    exit expand export expr factor fallocate false fc fg fgrep file find fmt fold for free fuser gawk
    gcc getent getfacl git gpg grep groupadd groups gunzip gzip hash head hexdump history host hostname
    hostnamectl htop iconv id if ifconfig install ionice ip jobs join jq kill killall last ldd less let
    link ln local locale locate ls lsattr lsb_release lsblk lscpu lsof make man mapfile md5sum mkdir
    mkfifo mknod mktemp more mount mv nano nc netstat nice nl node nohup nproc npm nslookup numfmt od
    openssl paste patch perl pgrep ping pip pip3 pkill pr printenv printf ps pstree pushd pwd pwdx
    python python3 read readarray readlink realpath renice rename return rev rg rm rmdir rsync ruby
    scp screen sed select seq service set setfacl sh sha1sum sha256sum sha512sum shasum shopt shred
    shuf sleep sort source split sqlite3 ss ssh ssh-keygen stat strace strings stty su sudo sum swapon
    sync systemctl tac tail tar tee test time timeout tmux top touch tput tr tree true truncate tsort
    tty type ulimit umask umount unalias uname uncompress unexpand uniq unlink unset until unxz unzip
    update-alternatives uptime useradd userdel usermod users vi vim vmstat w watch wc wget whereis
    which while who whoami xargs xxd xz yes yum zcat zgrep zip zipinfo zsh zstd
    """.split()  # noqa: SIM905
)
_KEYWORDS = frozenset({"if", "for", "while", "until", "case", "select"})
_PREFIX = re.compile(
    r"(?:(?:sudo|env|time|nohup|!|\()[ \t]+|\w+=(?:'[^']*'|\"[^\"]*\"|[^\s'\"]*)[ \t]+)"
)
_FUNCTION = re.compile(r"\w+[ \t]*\(\)[ \t]*\{|function[ \t]+\w+")
_PATH = re.compile(r"(?:\.{1,2}|~)?/[\w.@+/-]+$")
_WORD = re.compile(r"[a-z0-9][\w.+-]*$")
_SHELLISH = re.compile(r"[|><;&$*`\\]|\s--?\w|(?:^|\s)\.?\.?/|\w=")
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_STOP_WORDS = frozenset(
    """the this that these those you your we will is are was were which with of to it its can should
    i be into an please here there used using following named called""".split()  # noqa: SIM905
)
_PYTHON = re.compile(
    r"^[ \t]*(?:(?:def|class)[ \t]\w+[^\n]*:[ \t]*$|import[ \t]\w+$|from[ \t][\w.]+[ \t]import[ \t]|print\()"
    r"|\A#![^\n]*(?:python|perl|ruby|node)",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"(?:(?:your|the|a|insert|put|enter|replace|add|actual|real|with|shell|bash|linux|unix|valid) )*"
    r"(?:command|cmd)(?: goes)?(?: here)?|\.{2,}|…|your code here|placeholder"
)
_PLACEHOLDER_INSIDE = re.compile(
    r"your[ _-](?:(?:shell|bash|linux)[ _-])?(?:command|cmd)[ _-](?:goes[ _-])?here", re.IGNORECASE
)
_JSON = re.compile(r"\s*(?:\[\s*)?\{\s*[\"'}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_FRAME = re.compile(r"[\s_\-\[\]{}<>()\"'#]+")
_PROMPT = re.compile(
    r"(?:[\w.-]+@[\w.-]+:?[^\s$#]*|[\w.-]*|\[[^\]\n]{1,80}\])(?:\$|(?<=[~/\w])#)[ \t]+"
)
_FENCED = re.compile(r"(`{3,})(?:[a-z]*\n)?([^`]+)\1")
_BRACKETED = re.compile(r"\[([^\[\]\s][^\[\]]*)\]")

_MOST_LINES = 60
_MOST_CHARACTERS = 8000


def tidy(text: str) -> str:
    """The command in *text*, without decoration; empty if nothing is left.

    Removes a code fence or one pair of backticks around the whole, the square brackets that the
    built-in prompt's ``[your_command_here]`` invites (``[ -f x ]`` stays: it has a space), shell
    prompts with the output between them, a leading shebang and leading comment lines.
    """
    text = replace_lone_surrogates(text.replace("\r\n", "\n")).strip()
    fenced = _FENCED.fullmatch(text)
    if fenced is not None:
        text = fenced[2].strip()
    elif len(text) > 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        text = text[1:-1].strip()
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        text = bracketed[1].strip()
    return _without_prompts(_without_leading_comments(text)).strip()


def replace_lone_surrogates(text: str) -> str:
    """*text* made encodable: halves of surrogate pairs are joined or replaced."""
    if _SURROGATE.search(text) is None:
        return text
    joined = _SURROGATE_PAIR.sub(
        lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text
    )
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", joined)


def is_placeholder(command: str) -> bool:
    """Whether *command* is only a placeholder for a command, like those in prompts."""
    if _PLACEHOLDER_INSIDE.search(command):
        return True
    if len(command) > 100:
        return False
    return bool(_PLACEHOLDER.fullmatch(_FRAME.sub(" ", command).strip().lower()))


def is_json(text: str) -> bool:
    """Whether *text* begins like a JSON object; a brace group of bash does not."""
    return bool(_JSON.match(text))


def is_other_language(text: str) -> bool:
    """Whether *text* is plainly Python, or a script whose shebang names another interpreter."""
    return bool(_PYTHON.search(text))


def is_prose(line: str) -> bool:
    """Whether *line*, its quoted strings already removed, reads as a sentence, not as a command."""
    words = line.split()
    if not words or words[0] in {"echo", "printf", "#"}:
        return False
    stops = sum(word.strip(",.:;").lower() in _STOP_WORDS for word in words)
    if stops >= 2 or (stops and not _SHELLISH.search(line)):
        return True
    capitalised = words[0][0].isupper() and "=" not in words[0] and len(words) > 1
    return capitalised or (len(words) > 3 and line.rstrip()[-1] in ".:?!" and words[-1] != ".")


def starts_like_command(line: str) -> bool:
    """Whether *line* begins with a command that exists, a path, or something with flags or pipes."""
    line = line.strip()
    prefix = _PREFIX.match(line)
    while prefix is not None:
        line = line[prefix.end() :]
        prefix = _PREFIX.match(line)
    if _FUNCTION.match(line):
        return True
    word = line.split(None, 1)[0] if line else ""
    if word in _KEYWORDS:
        return bool(re.search(r"[;)]|\bin\b|\[", line))
    if word.rstrip(";") in _KNOWN or _PATH.match(word) or (word.startswith("(") and len(word) > 1):
        return True
    return (bool(_WORD.match(word)) and bool(_SHELLISH.search(line))) or bool(
        re.match(r"\w+=\S", word)
    )


def is_command_text(text: str) -> bool:
    """Whether all of *text* is plainly shell: it starts like a command and has no prose."""
    if len(text) > _MOST_CHARACTERS or text.count("\n") >= _MOST_LINES or is_other_language(text):
        return False
    text = tidy(text)
    if not text or is_json(text) or not starts_like_command(text.split("\n", 1)[0]):
        return False
    if "<<" in text:
        return True  # a here-document may hold any prose
    bare = _QUOTED.sub("''", text)
    return not any(is_prose(line) for line in bare.split("\n"))


def has_balanced_quotes(command: str) -> bool:
    """Whether every quote of *command* is closed, as bash reads it; always true for here-documents."""
    if "<<" in command:
        return True
    quote = ""
    position = 0
    while position < len(command):
        character = command[position]
        if character == "\\" and quote != "'":
            position += 1
        elif quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        position += 1
    return not quote


def _without_leading_comments(text: str) -> str:
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].strip()
        if line and not line.startswith("#"):
            return text[position:]
        position = end + 1
    return ""


def _without_prompts(text: str) -> str:
    """The typed lines of a transcript (``$ ls`` and its output); other text unchanged."""
    if _PROMPT.match(text) is None:
        return text
    typed: list[str] = []
    goes_on = False
    for line in text.split("\n"):
        prompt = _PROMPT.match(line)
        if prompt is not None:
            line = line[prompt.end() :]
        elif typed and line.startswith("> "):
            line = line[2:]
        elif not goes_on:
            continue
        typed.append(line)
        goes_on = line.endswith("\\")
    return "\n".join(typed)
