"""A small dataset: rows that are sound, and rows that are broken, each in a known way."""

from __future__ import annotations

from typing import Any

SOUND: list[dict[str, Any]] = [
    {
        "task_id": "make-file",
        "task": "Create hello.txt with the text Hello World",
        "success_condition": "grep -qx 'Hello World' hello.txt",
        "gold_command": "echo 'Hello World' > hello.txt",
    },
    {
        "task_id": "delete-logs",
        "task": "Delete all log files, and nothing else",
        "setup_commands": ["touch a.log b.log", "mkdir keep; echo x > keep/c.txt"],
        "success_condition": "[ -z \"$(find . -name '*.log')\" ] && [ -s keep/c.txt ]",
        "gold_command": "find . -name '*.log' -delete",
    },
    {
        # after everything is deleted it passes, and that is what it asks for
        "task_id": "delete-all",
        "task": "Empty the current directory",
        "setup_commands": ["mkdir -p a/b; touch a/b/c d"],
        "success_condition": '[ -z "$(ls -A)" ]',
        "gold_command": "rm -rf a d",
    },
    {
        # without a gold command nobody knows, but the words of the task do
        "task_id": "delete-one",
        "task": "Remove old.txt",
        "setup_commands": "touch old.txt new.txt",
        "success_condition": "[ ! -e old.txt ]",
    },
    {
        "task_id": "answer",
        "task": "How many lines has data.csv? Write the number to /tmp/answer.txt",
        "setup_commands": "seq 42 > data.csv",
        "success_condition": '[ "$(tr -d "[:space:]" < /tmp/answer.txt)" = 42 ]',
        "gold_command": "wc -l < data.csv > /tmp/answer.txt",
    },
    {
        # its exit code is decided before its last word
        "task_id": "several-ends",
        "task": "Sort names.txt into sorted.txt",
        "setup_commands": ["printf 'b\\na\\n' > names.txt"],
        "success_condition": "[ -f sorted.txt ] || exit 1\n"
        "sort names.txt | cmp -s - sorted.txt && exit 0\nexit 1",
        "gold_command": "sort names.txt > sorted.txt",
    },
    {
        # a path of the author's own machine, were it not made here
        "task_id": "other-home",
        "task": "Copy the configuration of alice to /srv/backup",
        "setup_commands": [
            "mkdir -p /home/alice /srv/backup && echo 'port=1' > /home/alice/app.conf"
        ],
        "success_condition": "cmp -s /home/alice/app.conf /srv/backup/app.conf",
        "gold_command": "cp /home/alice/app.conf /srv/backup/",
    },
    {
        # these speak of the network, and use none
        "task_id": "urls",
        "task": "Write the host names in urls.txt to hosts.txt, one a line",
        "setup_commands": "echo 'curl https://example.org/a' > urls.txt # wget\n"
        "cat >> urls.txt <<'END'\nsudo curl https://example.com/b\nEND",
        "success_condition": "[ \"$(cat hosts.txt)\" = $'example.org\\nexample.com' ]",
        "gold_command": "sed 's|.*https://||; s|/.*||' urls.txt > hosts.txt",
    },
    {
        # left running on purpose
        "task_id": "kill",
        "task": "Kill the process whose id is in pid.txt",
        "setup_commands": ["sleep 1000 >/dev/null 2>&1 & echo $! > pid.txt"],
        "success_condition": '! kill -0 "$(cat pid.txt)" 2>/dev/null && [ -s pid.txt ]',
        # what was killed is gone a moment later
        "gold_command": 'kill "$(cat pid.txt)"\n'
        'while kill -0 "$(cat pid.txt)" 2>/dev/null; do sleep 0.01; done',
    },
    {
        # a command that the gold command makes, and that is not there before
        "task_id": "new-command",
        "task": "Make a command `double` in /usr/local/bin that prints twice its argument",
        "success_condition": '[ "$(double 21)" = 42 ] && [ "$(double 4)" = 8 ]',
        "gold_command": "printf '#!/bin/bash\\necho $(($1 * 2))\\n' > /usr/local/bin/double\n"
        "chmod +x /usr/local/bin/double",
    },
    {
        # old files, and a date that is not today's
        "task_id": "old-files",
        "task": "Delete the files that are older than a week; write 2020-02-29's weekday to day.txt",
        "setup_commands": ["touch new.txt", "touch -d '30 days ago' old.txt"],
        "success_condition": '[ ! -e old.txt ] && [ -e new.txt ] && [ "$(cat day.txt)" = '
        '"$(date -d 2020-02-29 +%A)" ]',
        "gold_command": "find . -type f -mtime +7 -delete; date -d 2020-02-29 +%A > day.txt",
    },
    {
        # its setup draws lots, its verdict does not depend on them
        "task_id": "by-lot",
        "task": "Write the largest number of numbers.txt to max.txt",
        "setup_commands": ["for n in 1 2 3 4 5; do echo $RANDOM; done > numbers.txt"],
        "success_condition": "[ -s max.txt ] && "
        '[ "$(cat max.txt)" = "$(sort -n numbers.txt | tail -n 1)" ]',
        "gold_command": "sort -n numbers.txt | tail -n 1 > max.txt",
    },
    {
        "task_id": "goes-elsewhere",
        "task": "Create the directory out and, in it, the file done with the text ok",
        "setup_commands": ["mkdir work", "cd work"],
        "success_condition": "grep -qx ok out/done",
        "gold_command": "mkdir out && cd out && echo ok > done",
        "steps": "separate",
    },
    {
        "task_id": "änderung",
        "task": "Replace ü by ue in größe.txt",
        "setup_commands": ["echo 'für' > größe.txt"],
        "success_condition": "grep -qx 'fuer' größe.txt",
        "gold_command": "sed -i 's/ü/ue/g' größe.txt",
    },
]

_COPY = {
    "setup_commands": ["echo a > a.txt"],
    "success_condition": "cmp -s a.txt b.txt",
    "gold_command": "cp a.txt b.txt",
}


def _row(task_id: str, **changes: Any) -> dict[str, Any]:
    return {"task_id": task_id, "task": f"Copy a.txt to b.txt ({task_id})", **_COPY, **changes}


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    row["task_id"]: (row, kind)
    for kind, row in (
        ("passes-undone", _row("true", success_condition="true")),
        ("passes-undone", _row("or-true", success_condition="cmp -s a.txt b.txt || true")),
        ("passes-undone", _row("then-exit", success_condition="cmp -s a.txt b.txt; exit 0")),
        ("passes-undone", _row("there-before", success_condition="[ -s a.txt ]")),
        ("passes-undone", _row("inverted", success_condition="! cmp -s a.txt b.txt")),
        ("gold-fails", _row("false", success_condition="cmp -s a.txt b.txt && false")),
        ("gold-fails", _row("wrong-gold", gold_command="cp a.txt c.txt")),
        ("gold-fails", _row("gold-exit", gold_command="cp a.txt b.txt; false")),
        ("gold-fails", _row("no-gold-tool", gold_command="copyfile-x a.txt b.txt")),
        ("gold-fails", _row("no-tool", success_condition="cmp-x a.txt b.txt")),
        ("setup-fails", _row("setup-false", setup_commands=["echo a > a.txt", "false"])),
        ("setup-fails", _row("setup-tool", setup_commands=["echo a > a.txt", "makefile-x"])),
        ("setup-fails", _row("setup-exits", setup_commands=["echo a > a.txt; exit 3"])),
        ("syntax", _row("syntax", success_condition="if cmp -s a.txt b.txt; then exit 0")),
        ("syntax", _row("gold-syntax", gold_command="cp a.txt 'b.txt")),
        ("syntax", _row("setup-syntax", setup_commands=["echo a > a.txt", "for f in a; echo $f"])),
        (
            "flaky",
            _row("by-chance", success_condition="cmp -s a.txt b.txt && ((RANDOM % 2))"),
        ),
        (
            "flaky",
            _row("by-clock", success_condition="cmp -s a.txt b.txt && (($(date +%s) % 2))"),
        ),
        (
            "flaky",
            _row(
                "setup-by-chance",
                setup_commands=["echo a > a.txt", "test $((RANDOM % 2)) = 0"],
            ),
        ),
        ("condition-hangs", _row("hangs", success_condition="tail -f /dev/null")),
        (
            "passes-after-deletion",
            _row(
                "too-little",
                task="Delete the comments from code.sh",
                setup_commands=["printf 'a\\n# b\\n' > code.sh"],
                success_condition="! grep -q '#' code.sh",
                gold_command="sed -i /#/d code.sh",
            ),
        ),
        (
            "other-steps",
            _row(
                "needs-shared",
                setup_commands=["mkdir d", "cd d", "echo a > a.txt"],
            ),
        ),
        (
            "passes-after-deletion",
            _row(
                "both-empty",
                task="Write the largest number of numbers.txt to max.txt",
                setup_commands=["seq 5 > numbers.txt"],
                success_condition='[ "$(cat max.txt)" = "$(sort -n numbers.txt | tail -n 1)" ]',
                gold_command="sort -n numbers.txt | tail -n 1 > max.txt",
            ),
        ),
        ("row", _row("no-condition", success_condition="")),
        ("row", _row("no-task", task="  ")),
        ("row", _row("no-setup", setup_commands=[1])),
        ("row", _row("make-file")),
    )
}
"""Rows by id, each with the kind of its fault."""

WARNED: dict[str, tuple[dict[str, Any], str]] = {
    row["task_id"]: (row, kind)
    for kind, row in (
        (
            "setup-part-fails",
            _row("early", setup_commands=["cp nowhere.txt b2.txt", "echo a > a.txt"]),
        ),
        ("setup-item-empty", _row("empty-item", setup_commands=["echo a > a.txt", " ", "true"])),
        ("leaves-process", _row("left", setup_commands=["echo a > a.txt; sleep 1000 &"])),
        (
            "network",
            _row("net", setup_commands=["curl -s https://example.org/x; echo a > a.txt"]),
        ),
        ("network", _row("pip", setup_commands=["pip install six || true", "echo a > a.txt"])),
        ("sudo", _row("sudo", setup_commands=["sudo true; echo a > a.txt"])),
        (
            "host-path",
            _row("alice", setup_commands=["cp /home/alice/b . 2>/dev/null", "echo a > a.txt"]),
        ),
        (
            "host-path",
            _row("mnt", success_condition="cmp -s a.txt b.txt && [ ! -e /mnt/share/stop ]"),
        ),
        (
            "host-path",
            _row(
                "usr",
                task="Count what is in /usr/bin",
                success_condition='[ "$(cat n)" -gt 9 ]',
                gold_command="ls /usr/bin | wc -l > n",
            ),
        ),
        (
            "clock",
            _row("today", success_condition='cmp -s a.txt b.txt && [ "$(date +%Y)" -gt 2000 ]'),
        ),
        (
            "missing-program",
            _row("believed", success_condition="! cmp-x a.txt b.txt && [ -s b.txt ]"),
        ),
        ("hollow", _row("hollow", success_condition="[ -f b.txt ]")),
        (
            "passes-after-deletion",
            _row("no-gold", success_condition="! grep -q a a.txt", gold_command=None),
        ),
        ("repeats", {**SOUND[4], "task_id": "again"}),
    )
}
"""Rows by id, each with the kind of its warning; they have no fault."""
