"""Options: flag, environment, ini and default give one set of settings."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.settings.resolve import resolve
from pytest_shelleval.settings.settings import Settings
from pytest_shelleval.settings.table import OPTIONS, readme_table
from tests.support import Evaluation

HERE = Path("/somewhere")

# the script that this replaces
OLD_DEFAULTS: dict[str, Any] = {
    "split": "test",
    "phase": "both",
    "output_dir": HERE / "evaluation_results",
    "commands_file": HERE / "evaluation_results" / "commands.jsonl",
    "max_samples": None,
    "temperature": 0.6,
    "max_tokens": 2000,
    "sos_port": 3000,
    "sandbox_image": "deathbyknowledge/shellm-sandbox:latest",
}


def settle(
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    ini: dict[str, Any] | None = None,
) -> Settings:
    empty: dict[str, Any] = {
        option.key: None if option.switch else [] if option.many else "" for option in OPTIONS
    }
    return resolve(flags or {}, environment or {}, (empty | (ini or {})).__getitem__, HERE)


def test_the_table_and_the_settings_have_the_same_names() -> None:
    assert [field.name for field in fields(Settings)] == [o.field for o in OPTIONS] + ["given"]


def test_the_readme_has_the_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert readme_table() in readme


def test_every_option_is_one_line_of_help_on_a_terminal_of_80_columns(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = evaluation.run("--help", dataset=None).outlines
    for option in OPTIONS:
        for name in [option.flag] if option.secret else [option.flag, option.key]:
            (start,) = [n for n, line in enumerate(lines) if re.match(rf"  {name}(?![-\w])", line)]
            below = itertools.takewhile(lambda line: line.startswith(" " * 24), lines[start + 1 :])
            beside = re.findall(r"\S  +(\S.*)", lines[start])
            assert len([*beside, *below]) == 1, f"the help of {name} is longer than a line"


def test_every_option_is_two_lines_of_the_readme() -> None:
    for row in readme_table().splitlines()[2:]:
        meaning = row.split(" | ", 2)[2]
        assert len(meaning) <= 180, row


@pytest.mark.parametrize("name", OLD_DEFAULTS)
def test_defaults_of_the_script_before_are_kept(name: str) -> None:
    assert getattr(settle(), name) == OLD_DEFAULTS[name]


def test_flag_beats_environment_beats_ini_beats_default() -> None:
    ini = {"shelleval_samples": "2"}
    environment = {"SHELLEVAL_SAMPLES": "3"}
    flags = {"shelleval_samples": "4"}
    assert settle().samples == 1
    assert settle(ini=ini).samples == 2
    assert settle(ini=ini, environment=environment).samples == 3
    assert settle(ini=ini, environment=environment, flags=flags).samples == 4
    assert settle(flags=flags).given == {"samples"}


def test_options_given_several_times() -> None:
    assert settle({"shelleval_model": ["a", "b"]}).model == ("a", "b")
    assert settle(environment={"SHELLEVAL_MODEL": "a\nb\n"}).model == ("a", "b")
    assert settle(ini={"shelleval_model": ["a", "b"]}).model == ("a", "b")


def test_switches() -> None:
    assert settle({"shelleval_refresh": True}).refresh is True
    assert settle(environment={"SHELLEVAL_REFRESH": "yes"}).refresh is True
    assert settle(environment={"SHELLEVAL_REFRESH": "0"}).refresh is False
    assert settle(ini={"shelleval_refresh": True}).refresh is True


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "none", None),
        ("max_tokens", "none", None),
        ("temperature", "0", 0.0),
        ("memory", "512M", 512 << 20),
        ("disk", "1.5GiB", 3 << 29),
        ("output_limit", "4096", 4096),
        ("command_timeout", "1.5", 1.5),
        ("setup_timeout", "5m", 300.0),
        ("fail_under", "lower:0.8", "lower:0.8"),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    assert getattr(settle({f"shelleval_{name}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("samples", "0", "a whole number of at least 1 is expected, not '0'"),
        ("samples", "x", "a whole number of at least 1"),
        ("temperature", "-1", "a number of at least 0, or none"),
        ("memory", "lots", "a size is expected"),
        ("command_timeout", "0", "seconds, more than 0"),
        ("fail_under", "80", "a fraction from 0 to 1"),
        ("extra_body", "top_p=1", "a JSON object is expected"),
        ("extra_body", '{"model": "x"}', "model can't be set there"),
        ("price_input", "-1", "a number of at least 0 is expected"),
        ("max_cost", "0", "a number more than 0 is expected"),
        ("phase", "three", "one of inference, execution, both"),
        ("output_dir", "", "a value is expected"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(name: str, text: str, expected: str) -> None:
    flag = "--shelleval-" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{flag}: {expected}"):
        settle({f"shelleval_{name}": text})


def test_a_wrong_value_is_named_where_it_stands() -> None:
    with pytest.raises(UserError, match=r"^SHELLEVAL_SAMPLES: "):
        settle(environment={"SHELLEVAL_SAMPLES": "x"})
    with pytest.raises(UserError, match=r"^shelleval_samples in the ini file: "):
        settle(ini={"shelleval_samples": "x"})


def test_the_key_is_read_from_its_own_variable_and_is_nowhere_public() -> None:
    assert settle(environment={"OPENAI_API_KEY": "k"}).api_key == "k"
    assert settle(environment={"SHELLEVAL_API_KEY": "k"}).api_key is None
    settings = settle({"shelleval_api_key": "sk-secret"})
    assert settings.api_key == "sk-secret"
    assert "sk-secret" not in str(settings.public())
    assert settings.api_key.strip() == f"{settings.api_key}" == "sk-secret"


def test_the_repr_of_settings_shows_no_secret() -> None:
    url = "http://me:pass-word@host"
    options = {"api_key": "sk-secret", "sos_token": "tok", "base_url": url, "sos_url": [url]}
    settings = settle({f"shelleval_{name}": value for name, value in options.items()})
    other = replace(settings, sos_token="word", samples=3)
    for each in (settings, other, settings.sandbox_spec, other.sandbox_spec):
        text = f"{each!r} {each}"
        assert not [word for word in ("sk-secret", "tok'", "word'") if word in text]
    assert "samples=3" in repr(other)
    assert repr(settings).count("http://me:***@host") == 2


def test_the_base_url_falls_back_to_the_clients_variable() -> None:
    assert settle(environment={"OPENAI_BASE_URL": "http://x"}).base_url == "http://x"


def test_what_is_asked_of_the_model() -> None:
    flags = {
        "shelleval_temperature": "none",
        "shelleval_extra_body": '{"top_k": 3, "max_tokens": null}',
        "shelleval_structured": True,
    }
    assert settle(flags).params == {
        "temperature": None,
        "max_tokens": None,
        "top_k": 3,
        "structured": True,
    }
    assert settle().params == {"temperature": 0.6, "max_tokens": 2000}


def test_prices_go_together() -> None:
    both = {"shelleval_price_input": "1", "shelleval_price_output": "0"}
    assert settle(both).prices is not None
    assert settle().prices is None
    for flags in ({"shelleval_price_input": "1"}, {"shelleval_max_cost": "1"}):
        with pytest.raises(UserError, match="go together"):
            settle(flags)


def test_a_limit_on_the_cost_needs_one_on_the_replies() -> None:
    flags = {
        "shelleval_price_input": "1",
        "shelleval_price_output": "2",
        "shelleval_max_cost": "3",
        "shelleval_max_tokens": "none",
    }
    with pytest.raises(UserError, match="set --shelleval-max-tokens to a number"):
        settle(flags)
    for other in (
        {"shelleval_max_tokens": "9"},
        {"shelleval_extra_body": '{"max_completion_tokens": 9}'},
    ):
        assert settle({**flags, **other}).max_cost == 3
