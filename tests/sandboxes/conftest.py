from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from local_users import many_ids, provider, sandbox

__all__ = ["many_ids", "provider", "sandbox"]
