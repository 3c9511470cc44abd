"""Lines of results.jsonl for tests, written for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def record(task_id: str, outcome: str = "passed", **fields: Any) -> Record:
    """A line: *outcome* is ``passed``, ``failed`` or ``error``; *fields* replace what it holds."""
    passed = outcome == "passed"
    made: Record = {
        "task_id": task_id,
        "task": f"Do what {task_id} says",
        "setup_commands": [],
        "success_condition": f"test -e {task_id}",
        "generated_command": f"touch {task_id}",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "model": "small",
        "sample": 0,
        "prompt_hash": "0123456789abcdef",
        "raw_response": f"touch {task_id}",
        "reasoning": "First I think.",
        "finish_reason": "stop",
        "usage": {"input_tokens": 100, "output_tokens": 20},
        "latency_s": 0.5,
        "command_output": "",
        "command_exit_code": 0,
        "command_success": True,
        "test_exit_code": 0 if passed else 1,
        "test_passed": passed,
        "overall_success": passed,
        "trajectory": [
            {
                "index": 0,
                "command": f"touch {task_id}",
                "timestamp": 0.01,
                "result": {"output": "", "exit_code": 0},
            }
        ],
        "start_time": "2026-01-02T03:04:05.1+00:00",
        "end_time": "2026-01-02T03:04:06.2+00:00",
        "status": outcome,
        "error": "the sandbox is gone" if outcome == "error" else None,
        "error_kind": "sandbox" if outcome == "error" else None,
        "steps": "separate",
        "sandbox": {"kind": "local", "rootfs": "host", "id": "x"},
        "durations": {"sandbox": 0.01, "command": 0.02, "test": 0.03},
        "tags": ["files"],
        "difficulty_level": "easy",
    }
    return {**made, **fields}


def failed(task_id: str = "t", output: str = "", code: int | None = 1, **fields: Any) -> Record:
    """A line whose command ended with *code*."""
    return record(
        task_id,
        "failed",
        command_output=output,
        command_exit_code=code,
        command_success=False,
        **fields,
    )


def write_run(
    folder: Path, records: Iterable[Record], summary: dict[str, Any] | None = None
) -> Path:
    """A folder with results.jsonl, and with summary.json where *summary* is given."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in records)
    (folder / "results.jsonl").write_text(lines)
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder
