"""The owner of a container: labels, and removal of containers of dead runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN = "pytest-shelleval.run"
OWNER = "pytest-shelleval.owner"
BOOT = "pytest-shelleval.boot"
NAMESPACE = "pytest-shelleval.pid-namespace"


def labels(run: str) -> dict[str, str]:
    """Labels of a container that this process creates for *run*."""
    process = os.getpid()
    return {
        RUN: run,
        OWNER: f"{process}:{_start_of(process)}",
        BOOT: _read("/proc/sys/kernel/random/boot_id"),
        NAMESPACE: _namespace(),
    }


def is_dead(found: Mapping[str, str]) -> bool:
    """Whether the process that created a container with the labels *found* is known to be gone.

    This can be known only of a process of the same boot and the same pid namespace.
    """
    if found.get(BOOT) != _read("/proc/sys/kernel/random/boot_id"):
        return False
    if found.get(NAMESPACE) != _namespace():
        return False
    process, _, start = found.get(OWNER, "").partition(":")
    return process.isdigit() and _start_of(int(process)) != start


def remove_leftovers(api: Any) -> int:
    """Remove containers whose run is dead; returns how many. *api*: a ``docker.APIClient``.

    Containers end by themselves when the process that created them ends, so this finds only those
    that were never started, or whose engine went down with the run.
    """
    removed = 0
    for container in api.containers(all=True, filters={"label": RUN}):
        if is_dead(container.get("Labels") or {}):
            # another run may be removing it too
            with contextlib.suppress(Exception):
                api.remove_container(container["Id"], force=True, v=True)
                removed += 1
    return removed


def _start_of(process: int) -> str:
    """Ticks since the boot at which *process* started; empty if there is no such process."""
    fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "XZ" else ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
