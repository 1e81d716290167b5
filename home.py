"""Where ramify keeps what it fetches and builds: models, compiled kernels, calibration."""

from __future__ import annotations

import os
from pathlib import Path


def ramify_home() -> Path:
    """RAMIFY_HOME, or ~/.cache/ramify. Not created here."""
    return Path(os.environ.get("RAMIFY_HOME") or "~/.cache/ramify").expanduser()
