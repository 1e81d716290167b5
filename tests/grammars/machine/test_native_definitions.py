"""What the compiled core is given of a grammar: in few calls, some of it ahead, and no error before its time."""

from __future__ import annotations

from typing import Any

import pytest
from ramify.errors import GrammarError
from ramify.grammars.expression import Concat, Expression, byte_range, concat, either, literal, repeat
from ramify.grammars.machine.native import NativeMachine
from ramify.grammars.machine.native_core import CoreUnavailable, grammar_core
from ramify.grammars.machine.native_definitions import DefinitionGiver
from ramify.grammars.machine.native_program import ExpressionBatch
from ramify.grammars.program import Definition, Lexeme, Program, Rules
from ramify.grammars.schema import schema_program
from ramify.grammars.vocabulary import Vocabulary

try:
    grammar_core()
except CoreUnavailable as reason:
    pytest.skip(f"no compiled core: {reason}", allow_module_level=True)

BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [0])


def test_a_text_and_its_bytes_are_one_expression() -> None:
    machine = NativeMachine(Program([Lexeme(literal(b"a"))], 0), BYTES)
    for text in (b"", b"ab", b"abcd", bytes(range(256))):
        spelled = literal(text)
        assert isinstance(spelled, Concat) and spelled.text == text
        core = machine.core.expressions
        number = machine.expression(spelled)
        core.clear()
        assert machine.expression(Concat(spelled.parts)) == number
        core.clear()
    assert machine.expression(literal(b"ab")) != machine.expression(literal(b"abc"))


def test_a_batch_makes_each_part_once() -> None:
    part = either([literal(b"one"), literal(b"two")])
    whole: list[Expression] = [repeat(part), concat([part, literal(b","), part]), part, byte_range(1, 2)]
    batch = ExpressionBatch({})
    for expression in whole:
        batch.add(expression)
    assert len(batch.made) == 6  # two texts, part, and three of the four; a byte is no text
    assert set(whole) <= batch.made.keys()
    before = len(batch.code)
    for expression in whole:
        batch.add(expression)
    assert len(batch.made) == 6
    assert len(batch.code) - before <= 2 * len(whole)


def test_what_cannot_be_made_is_no_trouble_before_it_is_reached() -> None:
    def define(symbol: int) -> Definition:
        if symbol == 3:
            raise GrammarError("not to be had")
        return Rules(((3,),))

    definitions: list[Definition | None] = [
        Rules(((1,), (1, 2))),
        Lexeme(literal(b"ab")),
        None,
        None,
    ]
    program = Program(definitions, 0, define, certain={2, 3})
    matcher = NativeMachine(program, BYTES).matcher()
    assert program.definitions[2] is not None  # made ahead
    assert matcher.accept_bytes(b"a")
    with pytest.raises(GrammarError, match="not to be had"):
        matcher.accept_bytes(b"b")


def calls_for(schema: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    calls = []
    send = DefinitionGiver._send

    def counted(self: DefinitionGiver, *arguments: Any) -> None:
        calls.append(arguments)
        send(self, *arguments)

    monkeypatch.setattr(DefinitionGiver, "_send", counted)
    matcher = NativeMachine(schema_program(schema), BYTES).matcher()
    assert matcher.accept_bytes(b'{"a": {"b": {"c": {"d": "x"}}}}')
    return len(calls)


def test_a_schema_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for name in "dcba":
        schema = {"type": "object", "properties": {name: schema}, "additionalProperties": False}
    assert calls_for(schema, monkeypatch) == 1
    monkeypatch.setattr("ramify.grammars.machine.native_definitions.FIRST", 0)
    monkeypatch.setattr("ramify.grammars.machine.native_definitions.LATER", 0)
    assert calls_for(schema, monkeypatch) > 3
