"""One call for every kind of grammar, by name: what requests carry, and what the compile service runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..errors import GrammarError
from .grammar import Grammar

# The module of each front end: it is loaded when first needed, for some need packages that take long to load.
FRONT_ENDS = {
    "regex": ".patterns.front",
    "choices": ".patterns.front",
    "json_schema": ".schema.front",
    "json_value": ".schema.front",
    "ebnf": ".text.front",
    "lark": ".text.front",
    "gbnf": ".text.front",
    "structural_tag": ".text.tags",
    "from_type": ".python_types",
}


def front_end(kind: str) -> Any:
    """The function that makes grammars of this kind."""
    home = FRONT_ENDS.get(kind)
    if home is None:
        raise GrammarError(f"there is no kind of grammar {kind!r}; there are: {', '.join(FRONT_ENDS)}")
    return getattr(importlib.import_module(home, __package__), kind)


def compile_grammar(kind: str, source: Any = None, options: Mapping[str, Any] | None = None) -> Grammar:
    """The grammar that the front end called `kind` makes of `source`; kind "grammar": `source` itself.

    Raises GrammarError for a kind or an option that does not exist, and what the front end raises.
    """
    if kind == "grammar":
        if not isinstance(source, Grammar):
            raise GrammarError(f"a compiled Grammar is expected, not {type(source).__name__}")
        return source
    arguments = () if kind == "json_value" else (source,)
    make = front_end(kind)
    allowed = set(make.__kwdefaults__ or ())
    unknown = set(options or ()) - allowed
    if unknown:
        raise GrammarError(f"{kind} has no option {', '.join(sorted(unknown))}; its options: {sorted(allowed)}")
    found = make(*arguments, **(options or {}))
    assert isinstance(found, Grammar)
    return found
