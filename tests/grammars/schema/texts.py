"""Whole texts through a grammar, byte by byte: what the tests of schemas ask."""

from __future__ import annotations

import json
from typing import Any

from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.schema import schema_program
from ramify.grammars.vocabulary import Vocabulary

BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [])


def machine(schema: Any, **options: Any) -> Machine:
    """The machine of a schema over single bytes."""
    return Machine(schema_program(schema, **options), BYTES)


def takes(made: Machine, text: str | bytes) -> bool:
    """Whether this is a whole text of the language."""
    matcher = Matcher(made)
    return matcher.accept_bytes(text.encode() if isinstance(text, str) else text) and matcher.accepting


def check(schema: Any, valid: list[Any], invalid: list[Any], **options: Any) -> None:
    """Every valid value is taken as json.dumps writes it (with escapes and without), no invalid one is."""
    made = machine(schema, **({"order": "any"} | options))
    for value in valid:
        assert takes(made, json.dumps(value)), (schema, value)
        assert takes(made, json.dumps(value, ensure_ascii=False)), (schema, value)
    for value in invalid:
        assert not takes(made, json.dumps(value)), (schema, value)
