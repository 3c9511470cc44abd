"""The one table of options: each row is a flag, an environment variable and an ini key at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_shelleval.sandboxes.defaults import DEFAULT_IMAGE
from pytest_shelleval.settings.values import (
    automatic,
    json_object,
    limit,
    number,
    one_of,
    optional,
    positive,
    price,
    sandbox_kind,
    seconds,
    shard,
    size,
    text,
    whole,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    name: str
    """As in ``--shelleval-NAME``."""
    default: str
    """As a user would write it; empty for none."""
    help: str
    """One line of ``--help`` on a terminal of 80 columns, together with the default."""
    parse: Callable[[str], Any] = str
    """From text to value; raises ValueError whose message says what is expected."""
    many: bool = False
    """May be given several times; in the environment and the ini file, one value per line."""
    switch: bool = False
    """Takes no value."""
    more: str = ""
    """Follows :attr:`help` in the README; starts with the punctuation between them."""
    secret: bool = False
    """Never read from ``SHELLEVAL_*`` or the ini file, never written to any file."""

    @property
    def flag(self) -> str:
        """``--shelleval-output-dir``."""
        return f"--shelleval-{self.name}"

    @property
    def key(self) -> str:
        """``shelleval_output_dir``: the ini key, and the name in pytest's ``config.option``."""
        return f"shelleval_{self.field}"

    @property
    def field(self) -> str:
        """``output_dir``: the name in :class:`Settings`."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str | None:
        """``SHELLEVAL_OUTPUT_DIR``; None for secrets."""
        return None if self.secret else self.key.upper()


OPTIONS: tuple[Option, ...] = (
    Option(
        "dataset",
        "",
        "tasks: a file, a saved folder, a Hugging Face name",
        text,
        many=True,
        more=" (JSONL, JSON, CSV, TSV, Parquet, `save_to_disk`); may be given several times",
    ),
    Option("split", "test", "split of a dataset that has splits", text),
    Option(
        "model",
        "",
        "mock, oracle, noop, or a model that the server knows",
        text,
        many=True,
        more="; may be given several times",
    ),
    Option(
        "phase",
        "both",
        "inference, execution, or both",
        one_of("inference", "execution", "both"),
        more=": inference only asks the model, execution only runs the commands of an earlier one",
    ),
    Option("output-dir", "evaluation_results", "folder for all files", text),
    Option(
        "commands-file",
        "",
        "the commands (default: OUTPUT_DIR/commands.jsonl)",
        text,
        more=", which inference writes and execution reads",
    ),
    Option("max-samples", "", "use only the first N rows of each dataset", whole(1)),
    Option(
        "temperature",
        "0.6",
        "sampling temperature, or none",
        optional(number),
        more=" to leave it out of the request",
    ),
    Option(
        "max-tokens",
        "2000",
        "limit on the tokens of a reply, or none",
        optional(whole(1)),
        more=" to leave it out of the request",
    ),
    Option(
        "base-url",
        "",
        "model server (default: $OPENAI_BASE_URL, or OpenAI)",
        text,
        more="; any OpenAI-compatible one, such as `http://localhost:8000/v1`",
    ),
    Option(
        "api-key",
        "",
        "API key (better: $OPENAI_API_KEY)",
        text,
        secret=True,
        more=", which other users of the machine can't see",
    ),
    Option(
        "sandbox",
        "auto",
        "sandboxes: local, docker, sos, or auto",
        sandbox_kind,
        more=", which uses what works here",
    ),
    Option("sos-port", "3000", "port of a SoS server on this machine", whole(1)),
    Option(
        "sos-url",
        "",
        "URL of a SoS server (default: http://localhost:SOS_PORT)",
        text,
        many=True,
        more="; several make a fleet",
    ),
    Option(
        "sos-token", "", "token of the SoS server (better: $SHELLEVAL_SOS_TOKEN)", text, secret=True
    ),
    Option(
        "sos-permits",
        "",
        "sandboxes at a time on each SoS server",
        whole(1),
        more=", for all workers together; at most its `--max-sandboxes` (default: what `shelleval serve` reports, else 10)",
    ),
    Option(
        "sandbox-image",
        DEFAULT_IMAGE,
        "image",
        text,
        more=" of docker and sos sandboxes",
    ),
    Option("samples", "1", "commands to ask for per task, for pass@k", whole(1)),
    Option("inference-concurrency", "16", "model requests in flight at most", whole(1)),
    Option(
        "execution-concurrency",
        "auto",
        "executions at a time in this process",
        automatic(whole(1)),
        more="; auto: the usable cores plus one (local), 8 (docker), what the servers allow (sos)",
    ),
    Option("request-timeout", "120", "seconds for one request to the model", seconds),
    Option(
        "extra-body",
        "",
        "more fields of the request, as JSON",
        json_object,
        more=': `{"top_p": 0.9, "top_k": 40}`; null leaves one out',
    ),
    Option(
        "structured",
        "",
        "ask for JSON by a schema, if the server can",
        switch=True,
        more=" (`response_format`), else with the part of it that the server supports",
    ),
    Option("rpm", "", "requests per minute at most", whole(1)),
    Option("tpm", "", "tokens per minute at most, of prompts and replies", whole(1)),
    Option(
        "max-wait",
        "300",
        "longest wait that a server may ask for",
        seconds,
        more=", in seconds; if it asks for more (a daily quota), inference stops and can be continued later",
    ),
    Option("price-input", "", "price of a million input tokens, in US dollars", price),
    Option("price-output", "", "price of a million output tokens, in US dollars", price),
    Option(
        "max-cost",
        "",
        "limit on the cost of inference, in US dollars",
        positive,
        more="; stops before it is exceeded; earlier calls with the same commands.jsonl count; needs both prices and max-tokens",
    ),
    Option(
        "inference",
        "direct",
        "direct, or batch: OpenAI's Batch API",
        one_of("direct", "batch"),
        more=", half the price and up to a day",
    ),
    Option("refresh", "", "ask again for commands that commands.jsonl has", switch=True),
    Option(
        "prompt",
        "",
        "file with the user prompt",
        text,
        more="; `{task}` and `{any_column}` are filled in",
    ),
    Option("system-prompt", "", "file with the system prompt, filled in the same way", text),
    Option(
        "rootfs",
        "",
        "local: folder or tar to run on, not the host's files",
        text,
        more=", as `docker export` makes",
    ),
    Option("network", "", "docker: give sandboxes a network", switch=True),
    Option(
        "pool-size",
        "",
        "accepted but ignored: chosen automatically",
        whole(0),
    ),
    Option(
        "steps",
        "separate",
        "separate or shared shells",
        one_of("separate", "shared"),
        more=": separate starts setup, command and condition afresh, as in SoS; shared runs the command in the setup's shell, and the condition where it ended",
    ),
    Option(
        "strict-setup",
        "",
        "any setup command that fails is an error",
        switch=True,
        more=", not only the last",
    ),
    Option(
        "executions",
        "1",
        "runs of each command, to find flaky tasks",
        whole(1),
        more=": if the verdict changes, the task is an error of kind flaky, with its count",
    ),
    Option(
        "validate",
        "",
        "validate the rows first; a faulty one stops the run",
        switch=True,
        more=", before any model is asked (see shelleval validate)",
    ),
    Option(
        "command-timeout",
        "60",
        "time limit of a command, in seconds",
        seconds,
        more="; a command that takes longer has failed",
    ),
    Option(
        "setup-timeout",
        "300",
        "time limit of a setup, in seconds",
        seconds,
        more="; a setup that takes longer is an error",
    ),
    Option("memory", "1G", "memory of a sandbox", size),
    Option("disk", "256M", "space for files written in a sandbox", size),
    Option("processes", "256", "processes and threads in a sandbox", whole(8)),
    Option("output-limit", "1M", "output kept per step", size),
    Option(
        "resume",
        "",
        "continue an earlier run",
        switch=True,
        more=": replay its results (passed or failed) of the same command, sandbox and steps; run the rest, including errors",
    ),
    Option(
        "reuse",
        "",
        "execute equal commands once and share the verdict",
        switch=True,
        more=": the same command with the same setup and condition, across all samples and models",
    ),
    Option(
        "shard",
        "",
        "run part I of N of the tasks, such as 1/3",
        shard,
        more=", on a machine of its own; `shelleval merge` puts the parts together",
    ),
    Option(
        "fail-under",
        "",
        "gate: minimum pass rate, such as 0.8 or lower:0.8",
        limit,
        more=": exit status 0 if at least this fraction passes, else 1; lower: compares the lower end of the 95 % interval instead",
    ),
    Option(
        "max-errors",
        "",
        "gate: maximum number of tasks that end as errors",
        whole(0),
        more="; with more, the exit status is 1",
    ),
    Option(
        "baseline", "", "an earlier run to compare with", text, more=": its folder or results.jsonl"
    ),
    Option(
        "fail-on",
        "",
        "gate: regression or significant-regression",
        one_of("regression", "significant-regression"),
        more=": a task that passed in the baseline fails now, or the pass rate fell by more than chance explains",
    ),
    Option(
        "log-level",
        "info",
        "debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
        more=": the level of debug.log; info: a line for each request and each step in a sandbox; debug: also the commands",
    ),
)


def readme_table() -> str:
    """The table of options as the README shows it, in Markdown."""
    lines = ["| option | default | |", "|---|---|---|"]
    for option in OPTIONS:
        default = f"`{option.default}`" if option.default else ""
        meaning = (option.help + option.more).replace("|", "\\|")
        lines.append(f"| `{option.flag}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"
