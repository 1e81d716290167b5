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
    from .vocabulary import Vocabulary as Vocabulary

# Lazy (PEP 562): a name loads what it needs when it is used.
_HOMES = {
    "Grammar": ".grammar",
    "Matcher": ".machine.matcher",
    "Vocabulary": ".vocabulary",
    "compile_grammar": ".compiling",
    "regex": ".patterns.front",
    "choices": ".patterns.front",
}

__all__ = ["Grammar", "Matcher", "Vocabulary", "choices", "compile_grammar", "regex"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ramify.grammars' has no attribute {name!r}")
    return getattr(importlib.import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
