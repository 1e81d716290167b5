"""JSON schemas and free JSON as grammars."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import GrammarError, GrammarTooLarge
from ..grammar import Grammar
from .compile import Order, Whitespace, schema_program


def json_schema(
    schema: Mapping[str, Any] | bool | str,
    *,
    whitespace: Whitespace = "fixed",
    order: Order = "schema",
    separators: tuple[str, str] | None = None,
) -> Grammar:
    """JSON texts that satisfy a schema: an object, a boolean, or the JSON text of one; see `schema_program`.

    `whitespace`: "fixed" (`, ` and `: `, as json.dumps writes), "compact" (none), "flexible" (one space, or a line
    break with indentation) or "free" (at most 32 blanks wherever JSON allows them); `separators` as in json.dumps
    instead. `order`: "schema" (properties in the order of the schema, others after them; integers without a point, to
    be read as integers) or "any" (for judging given texts: in any order, and 1.0 is an integer).
    """
    if separators is not None:
        separators = (str(separators[0]), str(separators[1]))
    source = schema if isinstance(schema, str) else _text(schema)
    # Read from its text, so that nobody can change it afterwards, and any kind of mapping will do.
    program = schema_program(source, whitespace=whitespace, order=order, separators=separators)
    return Grammar(program, "json_schema", source, {"whitespace": whitespace, "order": order, "separators": separators})


def _text(schema: Mapping[str, Any] | bool) -> str:
    try:
        return json.dumps(schema)
    except RecursionError:
        raise GrammarTooLarge("a schema nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise GrammarError(f"a schema that is not JSON: {error}") from None


def json_value(*, whitespace: Whitespace = "fixed", separators: tuple[str, str] | None = None) -> Grammar:
    """Any JSON text; options as for `json_schema`."""
    program = schema_program(True, whitespace=whitespace, separators=separators)
    return Grammar(program, "json_value", "", {"whitespace": whitespace, "separators": separators})
