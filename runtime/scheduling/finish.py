"""How a request ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True, slots=True)
class Finish:
    """Why a request ended: `matched` is the stop string or token id that was met, `error` what went wrong."""

    reason: FinishReason
    error: Exception | None = None
    matched: str | int | None = None
