"""ramify's own grammars, with the properties of objects in any order."""

from __future__ import annotations

from .ramify_engine import Ramify


class RamifyAnyOrder(Ramify):
    order = "any"


ENGINE = RamifyAnyOrder
