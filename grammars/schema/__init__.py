"""JSON Schema to grammar programs."""

from __future__ import annotations

from .compile import Limits, schema_program

__all__ = ["Limits", "schema_program"]
