"""JSON Schema to a program: the front end's door."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import GrammarError, GrammarTooLarge
from ..program import Program
from .build import Builder
from .document import Document
from .layout import layout
from .normalize import Normalizer
from .terms import shown

# Keywords that are refused in some places: with them, a schema is looked at as a whole at once.
_OFTEN_REFUSED = frozenset(("uniqueItems", "contains", "multipleOf", "$dynamicRef", "$recursiveRef"))

Whitespace = Literal["fixed", "compact", "flexible", "free"]
Order = Literal["schema", "any"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a schema may cost: bytes of its text, values in it, definitions in its program."""

    bytes: int = 20_000_000
    values: int = 2_000_000
    definitions: int = 100_000


def schema_program(
    schema: Mapping[str, Any] | bool | str,
    *,
    whitespace: Whitespace = "fixed",
    order: Order = "schema",
    separators: tuple[str, str] | None = None,
    limits: Limits = Limits(),  # immutable
) -> Program:
    """The JSON texts that satisfy a schema (an object, a boolean, or the JSON text of one).

    Drafts 4 to 2020-12, by `$schema`; 2020-12 where there is none. Known formats are enforced, unknown keywords and
    formats say nothing. Nothing is fetched. Definitions are made when they are first reached, and what cannot be
    enforced is refused then, with GrammarError, whose `path` is the JSON pointer of the keyword; `Program.complete`
    makes and so checks all of them. A schema that nothing satisfies is refused. The schema must not change afterwards.

    Where `uniqueItems` allows arrays or objects beside scalars, at most one of each comes in one array. What else is
    allowed less than the schema allows: docs/decisions/008-json-schema.md.
    """
    if order not in ("schema", "any"):
        raise GrammarError(f'order={order!r} is neither "schema" nor "any"')
    punctuation = layout(whitespace, separators)
    raw = _read(schema, limits)
    if raw is False:
        raise GrammarError("nothing satisfies this schema: it is false")
    try:
        document = Document({} if raw is True else raw, limits.values)
        normalizer = Normalizer(document)
        builder = Builder(normalizer, punctuation, order == "schema", limits.definitions)
        builder.start(normalizer.terms.node(document.raw, "", 0))
        if document.words & _OFTEN_REFUSED:
            builder.program.complete(limits.definitions)
    except RecursionError:
        raise GrammarTooLarge("a schema nested too deeply") from None
    return builder.program


def _read(schema: object, limits: Limits) -> dict[str, Any] | bool:
    if isinstance(schema, str):
        if len(schema) > limits.bytes:
            raise GrammarTooLarge(f"a schema of more than {limits.bytes} bytes")
        try:
            schema = json.loads(schema)
        except RecursionError:
            raise GrammarTooLarge("a schema nested too deeply") from None
        except ValueError as error:
            raise GrammarError(f"not JSON: {error}") from None
    if isinstance(schema, bool):
        return schema
    if isinstance(schema, Mapping):
        return schema if type(schema) is dict else dict(schema)
    raise GrammarError(f"a schema is an object or a boolean, not {shown(schema)}")
