"""Time stamps as files have them."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """This moment: ISO 8601, UTC, microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
