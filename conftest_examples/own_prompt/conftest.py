"""Worked examples before the question: what a template can't do, a hook can."""

import json

WORKED = [
    ("Count the files in /tmp into n.txt", "find /tmp -maxdepth 1 -type f | wc -l > n.txt"),
    ("Remove the directory build", "rm -rf build"),
]


def pytest_shelleval_prompt(task, messages):
    *system, question = messages  # as the templates made them
    shots = []
    for sentence, command in WORKED:
        shots.append({"role": "user", "content": sentence})
        shots.append({"role": "assistant", "content": json.dumps({"command": command})})
    return [*system, *shots, question]
