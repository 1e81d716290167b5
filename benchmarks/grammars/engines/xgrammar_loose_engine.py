"""xgrammar with strict_mode=False."""

from __future__ import annotations

from .xgrammar_engine import XGrammar


class Loose(XGrammar):
    strict = False


ENGINE = Loose
