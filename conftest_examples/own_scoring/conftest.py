"""Scores in Python: partial credit, and conditions that bash is bad at."""

import json
import shlex


def read(sandbox, path):
    done = sandbox.exec(f"cat {shlex.quote(path)}", timeout=10)
    return done.output if done.exit_code == 0 else None


def share_of_files(task, sandbox):
    """The share of the files in the column ``expect`` that hold what they should."""
    expected = task.metadata["expect"]
    right = sum(read(sandbox, path) == text for path, text in expected.items())
    return right / len(expected)


def inventory(sandbox):
    """Whether inventory.json says how big each file is; the order and the spaces don't matter."""
    try:
        found = json.loads(read(sandbox, "inventory.json") or "")
    except ValueError:
        return False
    return found == {"a.bin": 300, "b.bin": 20}


CHECKS = {"inventory": inventory}


def pytest_shelleval_score(task, result, sandbox):
    if "expect" in task.metadata:
        return share_of_files(task, sandbox)
    if "check" in task.metadata:
        return CHECKS[task.metadata["check"]](sandbox)
    return None  # the success condition decides


class Half:
    """Does every job by halves."""

    name = "half"
    free = True

    async def generate(self, request):
        return {
            "sort-mail": "mkdir in && mv new.eml in/",
            "inventory": """stat -c '"%n": %s' *.bin | paste -sd, | sed 's/.*/{&}/' > inventory.json""",
            "plain": "touch done.txt",
        }[request.task.task_id]


def pytest_shelleval_model(name, settings):
    return Half() if name == "half" else None
