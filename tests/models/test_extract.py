"""From replies to commands: the shapes that real models answer in, in examples of our own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_shelleval.models.extract import extract_command

FENCE = "```"

FOUND = {
    # JSON
    '{"command":"echo $HOME"}': ("json", "echo $HOME"),
    '\n{ "command" : "ls" }\n': ("json", "ls"),
    'Sure! Here it is:\n\n{"command": "ls -l"}\n\nThis lists files.': ("json", "ls -l"),
    '{"explanation": "why", "command": "ls", "risk": 1}': ("json", "ls"),
    '{"Command": "ls",}': ("json", "ls"),
    '{"command":"a"}\n{"command":"b"}': ("json", "a"),
    '{"command":"[your_command_here]"}\n{"command":"pwd"}': ("json", "pwd"),
    r'{"command":"echo \"hi there\" > \"a b\""}': ("json", 'echo "hi there" > "a b"'),
    r'{"command":"printf \"a\\n\" > f"}': ("json", r'printf "a\n" > f'),
    r'{"command":"printf x\nls"}': ("json", "printf x\nls"),
    '{"command":"cat > f <<EOF\nhello\nEOF"}': ("json", "cat > f <<EOF\nhello\nEOF"),
    r'{"command":"grep \d+ f | sed s/\.//"}': ("json", r"grep \d+ f | sed s/\.//"),
    r'{"command":"grep \"\bfoo\b\" f"}': ("json", r'grep "\bfoo\b" f'),
    r'{"command":"echo \u00fc \ud83d\ude00"}': ("json", "echo ü 😀"),
    """{"command":"awk '{print $1}' f"}""": ("json", "awk '{print $1}' f"),
    '{"command":"[ -f x ] && rm x"}': ("json", "[ -f x ] && rm x"),
    '{"command":"[ls -l]"}': ("json", "ls -l"),
    '{"command":"$ ls -l"}': ("json", "ls -l"),
    '{"command":"`ls -l`"}': ("json", "ls -l"),
    '{"name":"shell","arguments":{"command":"ls"}}': ("json", "ls"),
    f'{FENCE}json\n{{"command":"ls"}}\n{FENCE}': ("json", "ls"),
    f'{FENCE}json\n{{"command":"ls"}}\n': ("json", "ls"),
    f'{FENCE}bash\n{{"command":"ls"}}\n{FENCE}': ("json", "ls"),
    # JSON, broken
    '{"command":"echo "done" > log.txt"}': ("json-repaired", 'echo "done" > log.txt'),
    '{"command":"echo "done""}': ("json-repaired", 'echo "done"'),
    """{"command":"awk -F"," '{print $2}' f"}""": (
        "json-repaired",
        """awk -F"," '{print $2}' f""",
    ),
    '{"command":"echo "a"","why":"says "a"."}': ("json-repaired", 'echo "a"'),
    '{"command":"echo "a" > f"}\n{"command":"ls"}': ("json-repaired", 'echo "a" > f'),
    'Use {"command":"echo "hi""} for that.': ("json-repaired", 'echo "hi"'),
    "{'command': 'ls -l'}": ("json-repaired", "ls -l"),
    "{'command': \"echo 'a'\"}": ("json", "echo 'a'"),
    "{command: 'ls'}": ("json-repaired", "ls"),
    "{“command”: “ls -l”}": ("json-repaired", "ls -l"),
    '{"command": """ls -l"""}': ("json-repaired", "ls -l"),
    # the first is broken; nor may it reach into the second, where its quotes would come out even
    '{"command":"echo "a b}\n{"command":"ls"}': ("json", "ls"),
    # of two ends that may be meant, the first
    'Use {"command":"echo "hi""} or {x: "y"} there.': ("json-repaired", 'echo "hi"'),
    '{"command":"ls -l"': ("open-json", "ls -l"),
    '{"command":"ls -l","why":"it lists the fi': ("json-repaired", "ls -l"),
    # code blocks
    f"{FENCE}bash\nchmod a+x s.sh\n{FENCE}": ("fence", "chmod a+x s.sh"),
    f"{FENCE}\n#!/bin/bash\n# say hello\necho hello\n{FENCE}": ("fence", "echo hello"),
    f"First:\n{FENCE}sh\nmkdir a\n{FENCE}\nOr:\n{FENCE}sh\nmkdir b\n{FENCE}": ("fence", "mkdir a"),
    f"{FENCE}bash\n# Your command here\n{FENCE}\n{FENCE}bash\nls\n{FENCE}": ("fence", "ls"),
    f"{FENCE}python\nprint(1)\n{FENCE}\n{FENCE}bash\nls\n{FENCE}": ("fence", "ls"),
    f"{FENCE}console\n$ ls\na.txt\n$ cat a.txt\nhello\n{FENCE}": ("fence", "ls\ncat a.txt"),
    f"{FENCE}\nme@host:~$ ls \\\n  -l\ntotal 0\n{FENCE}": ("fence", "ls \\\n  -l"),
    f"{FENCE}\n$ cat <<EOF\n> hi\n> EOF\nhi\n{FENCE}": ("fence", "cat <<EOF\nhi\nEOF"),
    f"{FENCE}bash\nfor i in 1 2; do\n  echo $i\ndone\n{FENCE}": (
        "fence",
        "for i in 1 2; do\n  echo $i\ndone",
    ),
    f"1. Run:\n   {FENCE}bash\n   ls\n   {FENCE}": ("fence", "ls"),
    f"1. Run:\n   {FENCE}sh\n   cat <<E\n     hi\n   E\n   {FENCE}": ("fence", "cat <<E\n  hi\nE"),
    f"{FENCE}sh\n  cat <<E\n  hi\nE\n{FENCE}": ("fence", "cat <<E\n  hi\nE"),
    f"{FENCE}sh\n  ls\n  pwd\n{FENCE}": ("fence", "ls\n  pwd"),
    f"{FENCE}bash\r\nls\r\npwd\r\n{FENCE}\r\n": ("fence", "ls\npwd"),
    "~~~sh\nls\n~~~": ("fence", "ls"),
    f"{FENCE}ls -l{FENCE}": ("fence", "ls -l"),
    f"{FENCE}bash ls -l{FENCE}": ("fence", "ls -l"),
    f"Run: {FENCE}bash\nls -l{FENCE}": ("fence", "ls -l"),
    f'{FENCE}bash\necho \'{{"command":"x"}}\' > c.json\n{FENCE}': (
        "fence",
        """echo '{"command":"x"}' > c.json""",
    ),
    f"{FENCE}bash\nls -l\n": ("open-fence", "ls -l"),
    f"ls -l | wc -l\n{FENCE}\n\nThis counts the files.": ("before-fence", "ls -l | wc -l"),
    # no blocks
    "ls -la": ("text", "ls -la"),
    "  pwd\n": ("text", "pwd"),
    "$ ls -la": ("text", "ls -la"),
    "Command: ls -la": ("text", "ls -la"),
    "**Answer:** ls -la": ("text", "ls -la"),
    '"ls -la"': ("text", "ls -la"),
    "Here is the command:\nls -la": ("text", "ls -la"),
    "mkdir -p a/b && cd a/b\ntouch c": ("text", "mkdir -p a/b && cd a/b\ntouch c"),
    "cat > f <<EOF\nThis is the text of the file.\nEOF": (
        "text",
        "cat > f <<EOF\nThis is the text of the file.\nEOF",
    ),
    "echo this is the text": ("text", "echo this is the text"),
    "echo `date` > now.txt": ("text", "echo `date` > now.txt"),
    "FOO=1 ./run.sh": ("text", "FOO=1 ./run.sh"),
    "for f in *.txt; do mv $f x/; done": ("text", "for f in *.txt; do mv $f x/; done"),
    "sudo systemctl restart nginx": ("text", "sudo systemctl restart nginx"),
    "frobnicate --all | sort": ("text", "frobnicate --all | sort"),
    "grep -c to mail.txt": ("text", "grep -c to mail.txt"),  # one word of prose beside a flag
    "You can use the `find` command: `find . -name '*.log'`.": (
        "inline",
        "find . -name '*.log'",
    ),
    "Just run `pwd`.": ("inline", "pwd"),
    f"`ls -R /tmp/x`\n\nExample output:\n{FENCE}\nls: a b\n{FENCE}": ("inline", "ls -R /tmp/x"),
    "ls -l\n\nThis will list the files in the directory.": ("paragraph", "ls -l"),
    # around reasoning and template markers
    '<think>\nI could use ls.\n</think>\n{"command":"ls"}': ("json", "ls"),
    '<think>{"command":"wrong"}</think>{"command":"ls"}': ("json", "ls"),
    'so {"command":"wrong"} no\n</think>\n{"command":"ls"}': ("json", "ls"),
    '<think></think>\n\n{"command":"ls"}': ("json", "ls"),
    'ls -l<|im_end|>\n<|im_start|>user\nthanks{"command":"x"}': ("text", "ls -l"),
    '<|im_start|>assistant\n{"command":"ls"}<|im_end|>': ("json", "ls"),
    '<|channel|>analysis<|message|>hm<|end|><|channel|>final<|message|>{"command":"ls"}': (
        "json",
        "ls",
    ),
}

NOT_FOUND = {
    "": "empty",
    "   \n\t": "empty",
    "<|im_end|>\n<|im_start|>user\n": "empty",
    "<think>hm</think>": "no answer",
    "<think>\nThe command would be ls -l": "within its reasoning",
    '{"command":""}': "empty",
    '{"command":"[your_command_here]"}': "placeholder",
    '{"command":"<command>"}': "placeholder",
    '{"command":"..."}': "placeholder",
    '{"command":"echo your_command_here"}': "placeholder",
    '{"command":"# comment"}': "empty",
    '{"command":"ls /home/a /home/b': "cut off",
    '{"command":': "cut off",
    '{"command": """ls -l}': "cut off",
    '{"command":null}': "not a string",
    '{"command":{"key":"test"}}': "not a string",
    '{"command":["ls","-l"]}': "not a string",
    '{"command":"echo "first lines"}': "quotes",
    '{"title":"list","body":"ls"}': "no command in it",
    f"{FENCE}bash\n# Your shell command here\n{FENCE}": "placeholder",
    f"{FENCE}bash\n# list the files\n{FENCE}": "comments",
    f"{FENCE}bash\n{FENCE}": "comments",
    f"{FENCE}python\nimport os\nos.remove('x')\n{FENCE}": "python",
    f"{FENCE}python\nprint(1)\n{FENCE}\n{FENCE}js\nalert(1)\n{FENCE}": "is python, not shell",
    f"{FENCE}\nFiles:\na.txt\n{FENCE}": "no code block",
    f"{FENCE}\nThis is the plan\nls -l": "no code block",
    f"{FENCE}\n#!/usr/bin/env python3\nprint(1)\n{FENCE}": "no code block",
    f"{FENCE}\n\nThis lists the files.": "no code block",
    "# just a comment": "comments",
    "#!/bin/bash\n\n# a helper\n# for files": "comments",
    "[Your command here]": "placeholder",
    "I'm sorry, but I can't help with that.": "declined",
    "I cannot assist with deleting files.": "declined",
    "This will print the value of the variable HOME.": "no command",
    "List all the files in the directory.": "no command",
    "find all the files in the directory": "no command",
    "make a directory called backup with the files in it": "no command",
    "sort names.txt with the -u flag": "no command",  # two words of prose beside a flag
    "find the logs": "no command",
    "print('1')\nprint('2')": "no command",
    "1. 2000: 2000\n2. 2001: 2001": "no command",
    '"""\n"empty.txt"\n"""': "no command",
    "The `diff` command differs from `cmp`.": "no command",
}


@pytest.mark.parametrize(("reply", "expected"), FOUND.items(), ids=[repr(k)[:60] for k in FOUND])
def test_a_command_is_found(reply: str, expected: tuple[str, str]) -> None:
    found = extract_command(reply)
    assert (found.rule, found.command) == expected
    assert found.reason is None


@pytest.mark.parametrize(
    ("reply", "reason"), NOT_FOUND.items(), ids=[repr(k)[:60] for k in NOT_FOUND]
)
def test_no_command_is_a_failure_with_a_reason(reply: str, reason: str) -> None:
    found = extract_command(reply)
    assert (found.command, found.rule) == (None, "none")
    assert found.reason is not None
    assert reason in found.reason


def test_reasoning_is_kept_apart() -> None:
    assert extract_command("<think>\none\n</think>\nls -l").reasoning == "one"
    assert extract_command("one\n</think>\nls -l").reasoning == "one"
    assert extract_command("<think>one").reasoning == "one"
    assert extract_command("ls -l").reasoning is None


PIECES = [
    *('{"command":"', '"}', '"', "'", "\\", "{", "}", ",", ":", "`", FENCE, f"{FENCE}bash\n", "\n"),
    *("<think>", "</think>", "<|im_end|>", "ls -l", "$ ", "#", " ", "echo ", "[", "]", "<<EOF\n"),
    *("your_command_here", "\r\n", "~~~", "the ", "\ud83d", "\x00", "> ", "output:\n", "😀"),
]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=30).map("".join))
def test_whatever_the_reply(reply: str) -> None:
    found = extract_command(reply)
    if found.command is None:
        assert found.rule == "none"
        assert found.reason
    else:
        assert found.reason is None
        assert found.command == found.command.strip() != ""
        found.command.encode()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_valid_json_gives_the_command_itself(text: str) -> None:
    command = f"printf {text} done"
    found = extract_command(json.dumps({"command": command}))
    expected = command.replace("\r\n", "\n").replace("\b", "\\b").replace("\f", "\\f")
    assert found.command == expected


@pytest.mark.parametrize("piece", [*PIECES, '{"command":"a"b" ', "\n<think>\n", '"command" : '])
@pytest.mark.parametrize("start", ["", '{"command":"', f"{FENCE}bash\n", "ls "])
def test_a_long_bad_reply_is_got_through(piece: str, start: str) -> None:
    extract_command(start + piece * (60_000 // len(piece)))
