"""Regular expressions, JSON schemas and grammars to automata, token masks and forced text; needs no torch.

grammar = grammars.json_schema({"type": "integer"})
matcher = grammar.matcher(grammars.Vocabulary.of(tokenizer))
matcher.mask()          # which tokens may come first, as packed bits
matcher.accept(token)   # one did
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiling import compile_grammar as compile_grammar
    from .grammar import Grammar as Grammar
    from .machine.matcher import Matcher as Matcher
    from .patterns.front import choices as choices
    from .patterns.front import regex as regex
    from .python_types import from_type as from_type
    from .schema.front import json_schema as json_schema
    from .schema.front import json_value as json_value
    from .service import CompileService as CompileService
    from .text.front import ebnf as ebnf
    from .text.front import gbnf as gbnf
    from .text.front import lark as lark
    from .text.tags import structural_tag as structural_tag
    from .vocabulary import Vocabulary as Vocabulary

# Lazy (PEP 562): a name loads what it needs when it is used.
_HOMES = {
    "Grammar": ".grammar",
    "Matcher": ".machine.matcher",
    "Vocabulary": ".vocabulary",
    "compile_grammar": ".compiling",
    "regex": ".patterns.front",
    "choices": ".patterns.front",
    "json_schema": ".schema.front",
    "json_value": ".schema.front",
    "ebnf": ".text.front",
    "gbnf": ".text.front",
    "lark": ".text.front",
    "structural_tag": ".text.tags",
    "from_type": ".python_types",
    "CompileService": ".service",
}

__all__ = [
    "CompileService",
    "Grammar",
    "Matcher",
    "Vocabulary",
    "choices",
    "compile_grammar",
    "ebnf",
    "from_type",
    "gbnf",
    "json_schema",
    "json_value",
    "lark",
    "regex",
    "structural_tag",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ramify.grammars' has no attribute {name!r}")
    return getattr(importlib.import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
