r"""A supervisor of shells, written in bash alone, for sandboxes that are controlled from outside.

Docker and SoS sandboxes run it inside the container, where only bash is sure to exist. It keeps the
session's shell, starts fresh ones, enforces timeouts and reports how each text ended. A request is
five strings, each ended by NUL: text, nonce, operation (``e`` fresh, ``s`` session), milliseconds,
directory. The output of the text is followed by a line with the nonce; a record of the outcome,
seven strings, goes to another stream.

As the first process of a container no command can kill it. If SoS starts it in a container whose
first process is another, ``kill -9 -1`` kills it too: then the session counts as killed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import ExecResult

FRESH, SESSION = "e", "s"
_FIELDS = 7

# Descriptors: 120 requests, 121 output, 122 reports; 123 how shells ended, 124 the session's script, 125
# a pipe that nobody writes to (to sleep). The session has 49 for 123: low, because bash must be able to
# restore it after "ulimit -n 50".
SUPERVISOR = r"""
home=$1
exec 123<> <(:) 124<> <(:) 125<> <(:) 0</dev/null 1>/dev/null 2>/dev/null
language=${LC_ALL-}; unset LC_ALL; LC_ALL=C; SHLVL=0
quote="'\\''"
session= wrapper= child= directory=$home last= text= nonce= operation= limit=

now() {
    if [[ -n ${EPOCHREALTIME-} ]]; then ms=$((${EPOCHREALTIME/[!0-9]/} / 1000))
    else ms=$((SECONDS * 1000)); fi
}

shell() {
    printf 500 >/proc/self/oom_score_adj
    [[ -z $language ]] || export LC_ALL="$language"
    { [[ -n $1 ]] && cd -- "$1" || cd -- "$home" || cd /; } 2>/dev/null
    OLDPWD=; unset OLDPWD
    shift
    exec -a bash /bin/bash "$@"
}

open_session() {
    (
        ( shell "$home" --noprofile --norc -s <&124 >&121 2>&1 49>&123 \
            120<&- 121>&- 122>&- 123>&- 124<&- 125<&- )
        printf 'E%s\0' $? >&123
    ) 120<&- 122>&- 125<&- &
    wrapper=$!
    printf '%s\n' "builtin trap 'builtin printf \"D%s %s\\0\" \"\$?\" \"\$(builtin pwd -P)\" 2>/dev/null >/proc/$$/fd/123' EXIT; builtin printf 'P%s\\0' \"\$\$\" >&49" >&124
}

note_directory() {
    # without a subshell: there may be no room for a process
    [[ -n $session ]] || return
    cd -P "/proc/$session/cwd" || return
    [[ $PWD == "/proc/$session/"* ]] || directory=$PWD
    cd "$home" || cd /
}

make_room() {
    # Bash ends when it can't fork: processes of earlier texts must not use up the limit.
    local place current most
    for place in /sys/fs/cgroup/pids /sys/fs/cgroup; do
        read -r current <"$place/pids.current" && read -r most <"$place/pids.max" || continue
        [[ $most == max ]] || ((most - current >= 6)) || { note_directory; kill_all; }
        return
    done
}

descendants() {
    # all processes of this process's session, and its descendants
    local process fields changed=1
    local -A parent=() mine=()
    for process in /proc/[0-9]*; do
        process=${process#/proc/}
        IFS= read -r fields <"/proc/$process/stat" || continue
        fields=(${fields##*) })
        parent[$process]=${fields[1]}
        [[ ${fields[3]} != "$$" ]] || mine[$process]=1
    done
    mine[$$]=1
    while ((changed)); do
        changed=0
        for process in "${!parent[@]}"; do
            if [[ -z ${mine[$process]-} && -n ${mine[${parent[$process]}]-} ]]; then
                mine[$process]=1 changed=1
            fi
        done
    done
    unset "mine[$$]"
    found=("${!mine[@]}")
}

kill_all() {
    local round found
    session= wrapper=
    if [[ $$ == 1 ]]; then
        # stopped first, so that no shell reports a killed child
        kill -STOP -1
        kill -KILL -1
    else
        for round in 1 2 3; do
            descendants
            ((${#found[@]})) || break
            kill -STOP "${found[@]}"
            kill -KILL "${found[@]}"
        done
    fi
    wait
    while read -t 0 <&123 && IFS= read -r -d '' -t 1 record <&123; do :; done
}

killed() {
    local name file
    for file in /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events; do
        while read -r name total; do
            [[ $name != oom_kill ]] || return 0
        done <"$file"
    done
    total=0
}

refused() {
    local name file
    for file in /sys/fs/cgroup/pids/pids.events /sys/fs/cgroup/pids.events; do
        while read -r name total; do
            [[ $name != max ]] || return 0
        done <"$file"
    done
    total=0
}

count() {
    local all=(/proc/[0-9]*)
    processes=${#all[@]}
}

take() {
    case $record in
        "$nonce "*) code=${record#* }; ended=1 ;;
        P*) session=${record#P} ;;
        D*) record=${record#D}; last=${record%% *}; directory=${record#* } ;;
        E*)
            session= wrapper=
            if [[ $operation == s ]]; then code=${record#E}; exited=1; ended=1; fi
            ;;
    esac
}

await() {
    local left tick record partial= lost=0
    while [[ -z $ended ]]; do
        now
        left=$((deadline - ms))
        if ((left <= 0)); then
            note_directory
            kill_all
            code= expired=1
            return
        fi
        ((left < 250)) || left=250
        printf -v tick '0.%03d' "$left"
        if IFS= read -r -d '' -t "$tick" record <&123; then
            record=$partial$record partial=
            take
            continue
        fi
        partial+=$record  # the read may time out in the middle of a record
        if [[ $operation == s ]]; then
            note_directory
            if [[ -n $session ]] && ! kill -CONT "$session"; then
                # its wrapper was killed too, or it would have reported the end
                ((++lost < 3)) || { code=${last:-137}; exited=1; ended=1; session= wrapper=; }
            fi
        elif ! kill -0 "$child"; then
            ((++lost < 3)) || { code=137; ended=1; }
        fi
    done
}

grace() {
    local turn
    for turn in 1 2 3 4 5 6 7 8 9 10; do
        count
        ((processes > before)) || return
        read -t 0.01 -r record <&125
    done
}

run() {
    local record
    code= exited=0 expired=0 ended= limit= last=
    while read -t 0 <&123 && IFS= read -r -d '' -t 5 record <&123; do
        take
    done
    code= exited=0 ended=
    [[ $operation != s ]] || make_room
    if [[ $operation == s && -z $wrapper ]]; then
        printf '%s\0' "$nonce" dead 1 0 '' 0 "$directory" >&122
        printf '\n%s\n' "$nonce" >&121
        return
    fi
    [[ $operation == s ]] || make_room
    killed; kills=$total
    refused; refusals=$total
    count; before=$processes
    now; start=$ms; deadline=$((ms + time))
    if [[ $operation == s ]]; then
        if ((${#text} <= 4000)); then
            text="'${text//\'/"$quote"}'"
        else
            # bash reads its script byte by byte
            exec 126< <(printf %s "$text")
            text="\"\$(</proc/$$/fd/126)\""
        fi
        printf 'builtin eval %s </dev/null 49>&-; { builtin printf "%%s %%s\\0" %s "$?" >&49; } 2>/dev/null\n' "$text" "$nonce" >&124
    else
        (
            arguments=(-c "$text")
            if ((${#text} > 100000)); then
                arguments=(-c 'builtin eval "$(</proc/self/fd/47)" 47<&-')
                exec 47< <(printf %s "$text")
            fi
            ( shell "$directory_asked" "${arguments[@]}" </dev/null >&121 2>&1 \
                120<&- 121>&- 122>&- 123>&- 124<&- 125<&- )
            printf '%s %s\0' "$nonce" $? >&123
        ) 120<&- 122>&- 124<&- 125<&- &
        child=$!
    fi
    text=
    await
    [[ $operation != s ]] || note_directory
    if [[ $code != 0 ]]; then
        killed; ((total <= kills)) || limit=memory
        refused; ((total <= refusals)) || limit=${limit:-processes}
        [[ $code != 153 ]] || limit=${limit:-disk}
    fi
    grace
    now
    [[ $operation != s ]] || exec 126<&-
    printf '\n%s\n' "$nonce" >&121
    printf '%s\0' "$nonce" "$code" "$exited" "$expired" "$limit" "$((ms - start))" "$directory" >&122
}

# Caught, not ignored, because the shells would inherit ignored signals.
[[ $$ != 1 ]] || trap : HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE TERM XCPU XFSZ VTALRM SYS
open_session
while IFS= read -r -d '' text <&120 && IFS= read -r -d '' nonce <&120 \
    && IFS= read -r -d '' operation <&120 && IFS= read -r -d '' time <&120 \
    && IFS= read -r -d '' directory_asked <&120; do
    run
done
"""


@dataclass(frozen=True, slots=True)
class Record:
    """The supervisor's report on one text."""

    result: ExecResult
    """Without the output."""
    directory: str
    """The session's directory, or its last one if it has ended."""

    def with_output(self, output: str, *, truncated: bool) -> ExecResult:
        """The result with its output."""
        return replace(self.result, output=output, truncated=truncated)


class SessionEnded(SandboxError):  # noqa: N818 - a state
    """An earlier text has ended the session."""


def parse_record(data: bytes, nonce: str) -> Record | None:
    """The record for *nonce* in *data*, or None while it is incomplete.

    Raises SessionEnded if it says that the session has ended, and SandboxError if it is invalid.
    """
    start = data.rfind(nonce.encode() + b"\0")
    if start < 0:
        return None
    fields = data[start:].split(b"\0")
    if len(fields) <= _FIELDS:
        return None
    _, code, exited, expired, limit, elapsed, directory = fields[:_FIELDS]
    if code == b"dead":
        raise SessionEnded("The session has ended; only fresh shells can be run")
    try:
        number = int(code) if code else None
        seconds = int(elapsed) / 1000
    except ValueError:
        raise SandboxError("The sandbox's supervisor sent an invalid report") from None
    return Record(
        ExecResult(
            output="",
            exit_code=None if expired == b"1" else number,
            exited=exited == b"1",
            timed_out=expired == b"1",
            limit=limit.decode() or None,
            duration=seconds,
        ),
        directory.decode("utf-8", "surrogateescape"),
    )


def encode(text: str) -> bytes:
    """The bytes of *text* for bash: without NUL; escaped non-UTF-8 bytes are restored."""
    text = text.replace("\0", "")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def request(nonce: str, operation: str, text: str, timeout: float, directory: str) -> bytes:
    """The encoded request to the supervisor; *timeout* is seconds."""
    fields = (text, nonce, operation, milliseconds(timeout), directory)
    return b"".join(encode(field) + b"\0" for field in fields)


def milliseconds(timeout: float) -> str:
    """*timeout*, in seconds, as the supervisor's milliseconds; at least 1."""
    return str(max(1, round(timeout * 1000)))


def marker(nonce: str) -> bytes:
    """The line that ends the output of a text."""
    return f"\n{nonce}\n".encode()
