"""Random schemas against jsonschema-rs, and a planted bug that the fuzzer must find."""

from __future__ import annotations

from typing import Any

import pytest
from ramify.grammars.program import Program
from ramify.grammars.schema import schema_program

from .fuzz import fuzz


def test_random_schemas_agree_with_the_judge() -> None:
    counts, wrong = fuzz(range(150))
    assert not wrong
    assert counts["compiled"] > 80
    assert min(counts["valid"], counts["invalid"], counts["walk"]) > 150


@pytest.mark.slow
def test_many_random_schemas_agree_with_the_judge() -> None:
    counts, wrong = fuzz(range(1_000_000, 1_003_000))
    assert not wrong
    assert counts["compiled"] > 1900


def test_the_fuzzer_finds_a_dropped_keyword() -> None:
    def careless(schema: Any, **options: Any) -> Program:
        return schema_program(_without(schema, "dependentRequired"), **options)

    _, wrong = fuzz(range(120), careless)
    assert any("accepts invalid" in finding for finding in wrong)


def _without(schema: Any, word: str) -> Any:
    if isinstance(schema, dict):
        return {key: _without(value, word) for key, value in schema.items() if key != word}
    return [_without(value, word) for value in schema] if isinstance(schema, list) else schema
