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
        ("Write the text 'All done' to the file status.txt.", "echo 'All done' > status.txt"),
        ("Create an empty file called empty.txt", "touch empty.txt"),
        ("Create a directory named /opt/tools/bin", "mkdir -p /opt/tools/bin"),
        ("List all files including hidden ones", "ls -la"),
        ("Copy the file notes.txt to backup.txt", "cp -r notes.txt backup.txt"),
        ("Rename old.txt to new.txt", "mv old.txt new.txt"),
        ("Delete the file junk.txt", "rm -rf junk.txt"),
        ("Find all files with the extension .py", "find . -name '*'.py"),
        ("Search for 'two words' in app.log", "grep 'two words' app.log"),
        ("Make the script run.sh executable", "chmod +x run.sh"),
        ("Count the lines in data.txt", "wc -l < data.txt"),
        (
            "Count the lines of data.txt and write the number to count.txt",
            "wc -l < data.txt > count.txt",
        ),
        ("List all files, also hidden ones, and write the list to l.txt", "ls -la > l.txt"),
        ("Sort the file names.txt alphabetically", "echo 'Task completed'"),
        ("Copy a.txt to b.txt and reverse it", "echo 'Task completed'"),
    ],
)
def test_the_mocks_phrases(sentence: str, command: str) -> None:
    assert write_command(sentence) == command


@pytest.mark.parametrize("name", ["mock", "oracle", "noop"])
def test_models_without_a_server(name: str) -> None:
    model = build_model(name)
    assert isinstance(model, Model)
    assert model.name == name
    assert getattr(model, "free", False) is True
