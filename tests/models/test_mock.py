from __future__ import annotations

import pytest

from pytest_shelleval.models.base import Model
from pytest_shelleval.models.mock import write_command
from pytest_shelleval.models.registry import build_model


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        (
            "Create a file named hello.txt with content Hello World",
            "echo 'Hello World' > hello.txt",
        ),
        ("Write the text 'hi there' to greet.txt", "echo 'hi there' > greet.txt"),
        ('Append the line "done" to log.txt', "echo done >> log.txt"),
        ("Create an empty file called empty.txt", "touch empty.txt"),
        ("Create a directory called backup", "mkdir -p backup"),
        ("Make a folder named logs inside /tmp", "mkdir -p /tmp/logs"),
        ("Create the directory tree a/b/c in one command", "mkdir -p a/b/c"),
        ("List all files including hidden ones", "ls -la"),
        ("Copy a.txt to b.txt", "cp -r a.txt b.txt"),
        ("Copy notes.txt to the directory backup", "cp -r notes.txt backup"),
        ("Copy all .txt files into backup", "cp -r *.txt backup"),
        ("Rename old.txt to new.txt", "mv old.txt new.txt"),
        ("Move old.txt to archive/", "mv old.txt archive/"),
        ("Delete the file junk.txt", "rm -rf junk.txt"),
        (
            "Delete every file ending in .tmp in the current directory",
            "find . -name '*.tmp' -type f -delete",
        ),
        ("Find all .log files under /var/log", "find /var/log -name '*.log'"),
        ("Find all Python files (*.py) in src", "find src -name '*.py'"),
        ("Search for the word error in app.log", "grep error app.log"),
        ("Make script.sh executable", "chmod +x script.sh"),
        ("Set the permissions of run.sh to 755", "chmod 755 run.sh"),
        ("Count the lines in data.txt", "wc -l < data.txt"),
        (
            "Count the lines in data.txt and write the number to count.txt",
            "wc -l < data.txt > count.txt",
        ),
        ("Print the contents of a.txt", "cat a.txt"),
        ("Print the first 5 lines of /etc/passwd", "head -n 5 /etc/passwd"),
        ("Show the current working directory", "pwd"),
        ("Sort the file names.txt alphabetically", "echo 'Task completed'"),
        ("Reverse the polarity", "echo 'Task completed'"),
        ("Create a file named it's.txt", "touch 'it'\"'\"'s.txt'"),
    ],
)
def test_the_mocks_rules(sentence: str, command: str) -> None:
    assert write_command(sentence) == command


@pytest.mark.parametrize("name", ["mock", "oracle", "noop"])
def test_models_without_a_server(name: str) -> None:
    model = build_model(name)
    assert isinstance(model, Model)
    assert model.name == name
    assert getattr(model, "free", False) is True


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        (
            "Search for 'ERROR' in app.log and write the lines to e.txt",
            "grep ERROR app.log > e.txt",
        ),
        (
            "Find all .py files and save them to the file found.txt.",
            "find . -name '*.py' > found.txt",
        ),
        ("List all files, and write the list into l.txt", "ls -la > l.txt"),
    ],
)
def test_what_is_to_go_into_a_file_goes_there(sentence: str, command: str) -> None:
    assert write_command(sentence) == command
