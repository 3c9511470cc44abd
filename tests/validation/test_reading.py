"""What the text of a row says: calls, network, clock, paths. Bash itself is the judge of grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_shelleval.core.tasks import Task
from pytest_shelleval.validation import reading
from pytest_shelleval.validation.shell import calls


def programs(text: str) -> list[str]:
    return sorted(call.program for call in calls(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 'b; c' | d && e # f", "a d e"),
        ("x=1 y=$(a) b", "a b"),
        ("a <<END\nb\nEND\nc", "a c"),
        ("a <<-'END'\n\tb\n\tEND\nc", "a c"),
        ('a "$(b "c d")" `e`', "a b e"),
        ("if a; then b; else ! c; fi", "a b c"),
        ("for f in a b; do c; done", "c"),
        ("case $x in a) b;; *) c;; esac", "b c"),
        ("x=$((1 << 3)); y=$(( $(a) % 2 )); (( z > 1 )) && b", "a b"),
        ("sudo -u bob env A=1 timeout -k 1 5 a b", "a env sudo timeout"),
        ("bash -c 'a; b' && eval c d", "a b bash c eval"),
        ("command -v a", "command"),
        ("list=(a b); (c; d) > e 2>&1 &", "c d"),
        ("diff <(a) <(b) < c", "a b diff"),
        ("a \\\n  b\nc", "a c"),
    ],
)
def test_the_calls_in_shell_text(text: str, expected: str) -> None:
    assert programs(text) == expected.split()


@given(st.text(alphabet="ab $(){}[]`'\"\\|&;<>\n#=!", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    calls(text)
    reading.why_it_never_fails(text)
    reading.why_it_never_passes(text)


def test_deep_and_long_texts_are_read_too() -> None:
    calls("$(" * 5_000)
    assert len(calls("a 'b' \"c\"; " * 20_000)) == 20_000


@pytest.mark.parametrize(
    "text",
    [
        "curl -fsSL https://example.org/x | sh",
        "apt-get update && apt-get -y install jq",
        "python3 -m pip install six",
        "git clone https://example.org/x.git",
        "scp alice@build:/x .",
        "exec 3<>/dev/tcp/example.org/80",
        'x="$(wget -qO- example.org)"',
        "nc -z 10.0.0.7 22",
    ],
)
def test_the_network_is_seen(text: str) -> None:
    assert reading.network_call(text)


@pytest.mark.parametrize(
    "text",
    [
        "echo 'curl https://example.org'",
        "curl -s http://localhost:8000/x",
        "curl --version",
        "git clone ./a b && git -C b fetch",
        "pip install ./package",
        "rsync -a a/ b/",
        "grep -c curl install.sh # wget x",
        "cat > get.sh <<'E'\nwget https://example.org\nE",
        "apt list --installed",
    ],
)
def test_what_only_speaks_of_it_is_not(text: str) -> None:
    assert not reading.network_call(text)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('[ "$(cat x)" = "$(date +%F)" ]', True),
        ("date -d yesterday +%F", True),
        ("(( EPOCHSECONDS > 3 ))", False),
        ("echo $EPOCHSECONDS", True),
        ("python3 -c 'import datetime; datetime.date.today()'", True),
        ("date -d 2020-01-01 +%A", False),
        ("date -r file +%s", False),
        ('date -d "$1" +"$2"', False),
        ("echo date; grep -q date x", False),
    ],
)
def test_the_clock_is_seen(text: str, asks: bool) -> None:
    assert bool(reading.clock_call(text)) == asks


@pytest.mark.parametrize(
    ("condition", "never_fails", "never_passes"),
    [
        ("[ -f x ] || true", True, False),
        ("[ -f x ]\nexit 0", True, False),
        ("a; echo done", True, False),
        ("[ -f x ] && exit 0", False, False),
        ("[ -f x ] || exit 1", False, False),
        ("if a; then exit 0; else exit 1; fi", False, False),
        ("a && false", False, True),
        ("a; exit 3", False, True),
        ("a; exit $?", False, False),
        ("x=$(a || true)", False, False),
    ],
)
def test_what_an_end_decides(condition: str, never_fails: bool, never_passes: bool) -> None:
    assert bool(reading.why_it_never_fails(condition)) == never_fails
    assert bool(reading.why_it_never_passes(condition)) == never_passes


def test_paths_that_may_be_of_one_machine() -> None:
    task = Task(
        task_id="t",
        task="",
        setup_commands=("echo /home/no/text > f; cp /home/alice/a .; touch /usr/share/made",),
        success_condition="grep -q '/home/no/pattern' out && [ -s /mnt/x ] && cat /usr/share/made"
        " && [ \"$p\" = '/home/no/string' ] && find /data -name '/home/no/name'",
        gold_command="sort < /nfs/in > out; look x /usr/share/dict/words; wc -l /usr/share/dict/w"
        " /tmp/t /etc/passwd /usr/bin/env /home/shellm/f",
    )
    absent, installed = reading.host_paths(task)
    assert absent == ["/home/alice/a", "/nfs/in", "/mnt/x", "/data"]
    assert installed == ["/usr/share/dict/w"]
