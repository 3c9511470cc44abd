"""The part of /sys that tools read to count processors; the rest stays hidden."""

from __future__ import annotations

import os

_PLACE = "sys/devices/system/cpu"
_NAMES = ("possible", "present", "online")
_TOPOLOGY = ("thread_siblings", "core_siblings", "core_id", "physical_package_id")
_MOST = 64


def make(root: str) -> None:
    """Copy it below *root*, where ``/sys`` is an empty directory; unreadable files are left out."""
    os.makedirs(f"{root}/{_PLACE}", 0o755)
    paths = list(_NAMES)
    for number in range(min(_MOST, os.cpu_count() or 1)):
        os.makedirs(f"{root}/{_PLACE}/cpu{number}/topology", 0o755)
        paths += [f"cpu{number}/topology/{name}" for name in _TOPOLOGY]
    for path in paths:
        try:
            with open(f"/{_PLACE}/{path}", "rb", buffering=0) as file:
                content = file.read(4096)
            with open(f"{root}/{_PLACE}/{path}", "wb", buffering=0) as file:
                file.write(content)
        except OSError:
            continue
