"""report.html without a browser: what the file holds."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.report.charts import distributions, quantile
from pytest_shelleval.report.html import write_report
from tests.report.records import record, write_run

HOSTILE = "</script><script>window.bad=1</script><img src=x onerror=window.bad=1>\u202e\x1b[31m\ud800&amp;"


def chunks(html: str) -> list[Any]:
    found = re.findall(r'<script type="text/plain" id="chunk-\d+">([^<]*)</script>', html)
    return [each for text in found for each in json.loads(zlib.decompress(base64.b64decode(text)))]


def index(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="index">([^<]*)</script>', html)
    assert match is not None
    found: dict[str, Any] = json.loads(match[1])
    return found


def test_all_records_are_there_and_whole(tmp_path: Path) -> None:
    records = [record(f"t{n}", raw_response=f"reply {n}") for n in range(250)]
    html = write_report(write_run(tmp_path, records)).read_text()
    held = chunks(html)
    assert [pair[0]["task_id"] for pair in held] == [f"t{n}" for n in range(250)]
    assert [pair[0]["raw_response"] for pair in held] == [f"reply {n}" for n in range(250)]
    assert index(html)["columns"]["id"] == [f"t{n}" for n in range(250)]


def test_the_baseline_stands_beside(tmp_path: Path) -> None:
    before = write_run(tmp_path / "a", [record("t"), record("gone")])
    now = write_run(tmp_path / "b", [record("t", "failed"), record("new")])
    html = write_report(now, baseline=before / "results.jsonl").read_text()
    (one, two) = chunks(html)
    assert (one[0]["status"], one[1]["status"]) == ("failed", "passed")
    assert two[1] is None
    assert index(html)["names"]["change"] == ["broken", "new"]


def test_nothing_of_the_data_is_markup(tmp_path: Path) -> None:
    texts = ("task", "generated_command", "command_output", "raw_response", "model")
    fields = dict.fromkeys(texts, HOSTILE)
    records = [record(HOSTILE, "failed", **fields, tags=[HOSTILE], difficulty_level=HOSTILE)]
    summary = {
        "successful_samples": 0,
        "total_samples": 1,
        "unrun_samples": 0,
        "complete": True,
        "dataset_path": HOSTILE,
        "settings": {HOSTILE: HOSTILE},
    }
    run = write_run(tmp_path / "a", records, summary)
    html = write_report(run, baseline=run).read_text()
    assert "<img" not in html
    assert "<script>window" not in html
    assert html.count("<script>") == 1
    assert html.count("</script>") == 3
    assert not any(char in html for char in "\u202e\x1b")
    assert chunks(html)[0][0]["command_output"] == HOSTILE


def test_nothing_is_fetched_and_only_our_script_runs(tmp_path: Path) -> None:
    html = write_report(write_run(tmp_path, [record("t")])).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert "innerHTML" not in html


def test_long_texts_and_what_json_lacks(tmp_path: Path) -> None:
    long = record("t", command_output="a" * 1_000_000 + "end", score=math.nan)
    path = write_report(write_run(tmp_path, [long]))
    ((held, _),) = chunks(path.read_text())
    assert "988,003 characters left out" in held["command_output"]
    assert held["command_output"].endswith("end")
    assert held["score"] == "nan"
    assert path.stat().st_size < 100_000


def test_2000_ordinary_tasks_make_less_than_5_mb(tmp_path: Path) -> None:
    records = [
        record(
            f"task-{n:04d}",
            reasoning=" ".join(f"step{n * m % 9973}" for m in range(150)),
            command_output="\n".join(f"line {n * m}" for m in range(60)),
            setup_commands=[f"mkdir -p /srv/{n}", f"seq {n} > /srv/{n}/list.txt"],
        )
        for n in range(400)  # a fifth
    ]
    assert write_report(write_run(tmp_path, records)).stat().st_size < 1_000_000


@pytest.mark.parametrize("count", [0, 1])
def test_small_runs(tmp_path: Path, count: int) -> None:
    records = [record(f"t{n}", "error", durations={}, usage=None) for n in range(count)]
    assert write_report(write_run(tmp_path, records)).is_file()


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        write_report(tmp_path)


def test_histograms_hold_every_value() -> None:
    values = [0.0, 0.0001, 0.01, 0.5, 2.0, 2.0, 90.0]
    chart = distributions({"a": values, "b": [], "c": [1.0]}, 0.001)
    assert chart is not None
    assert [row.name for row in chart.rows] == ["a", "c"]
    assert [sum(each.count for each in row.bins) for row in chart.rows] == [7, 1]
    assert all(0 <= each.x <= chart.width for row in chart.rows for each in row.bins)
    assert all(0 <= tick.x <= chart.width for tick in chart.ticks)
    assert distributions({"a": []}, 1) is None
    assert distributions({"a": [5.0]}, 1) is not None


def test_quantiles_agree_with_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    values = [1.0, 2.0, 4.0, 8.0, 9.5]
    for share in (0, 0.1, 0.5, 0.9, 1):
        assert math.isclose(quantile(values, share), float(numpy.quantile(values, share)))
