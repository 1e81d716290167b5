"""Grammars from Python types: what is generated is what pydantic reads back."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import random
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional, Union

import pydantic
import pytest
from ramify.errors import GrammarError
from ramify.grammars import from_type, json_schema
from ramify.grammars.python_types import schema_of
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from .bytewise import accepts, walk


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    next: Optional[Point] = None  # noqa: UP045  # a forward reference
    color: Color = Color.RED


class Movie(TypedDict):
    title: str
    year: int


class Person(pydantic.BaseModel):
    name: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=5, pattern="^[A-Z][a-z]*$")]
    age: Annotated[int, pydantic.Field(ge=0, lt=150)]
    tags: list[Literal["a", "b"]] = []
    children: list[Person] = []


CASES: list[tuple[Any, list[str], list[str]]] = [
    (
        Point,
        ['{"x": 1}', '{"x": 1, "next": {"x": 2, "next": null}, "color": "blue"}'],
        ['{"x": 1, "color": "green"}', "{}"],
    ),
    (Movie, ['{"title": "x", "year": 1999}'], ['{"title": "x"}']),
    (
        Person,
        ['{"name": "Ada", "age": 36}', '{"name": "A", "age": 1, "tags": ["a"], "children": [{"name": "B", "age": 0}]}'],
        ['{"name": "ada", "age": 36}', '{"name": "Ada", "age": 150}', '{"name": "Adaaaa", "age": 1}'],
    ),
    (Color, ['"red"'], ['"green"', "red"]),
    (Literal[1, "x", None], ["1", '"x"', "null"], ["2"]),
    (Union[int, list[str]], ["1", '["a"]'], ["[1]"]),  # noqa: UP007
    (int | None, ["-5", "null"], ["x"]),
    (float, ["1.5", "-2e3"], ["NaN"]),
    (bool, ["true"], ["1", "True"]),
    (str, ['"é"'], ["x"]),
    (datetime.date, ['"2024-02-29"'], ['"2024-02-31"', '"24-01-01"']),
    (dict[str, int], ['{"a": 1}', "{}"], ['{"a": "1"}']),
    (tuple[int, str], ['[1, "a"]'], ["[1]", '[1, "a", 2]']),
    (uuid.UUID, ['"12345678-1234-5678-1234-567812345678"'], ['"1234"']),
    (pydantic.UUID4, ['"12345678-1234-4678-9234-567812345678"'], ['"12345678-1234-5678-9234-567812345678"']),
    (decimal.Decimal, ["1.5"], ["[]"]),
    (datetime.timedelta, ['"P3DT4H5M6.5S"', '"-PT1S"'], ['"P"', '"PT"', '"P99999999999Y"', '"x"']),
    (complex, ['"1+2j"', '"-0.5"'], ['"x"']),
    (pydantic.Base64Bytes, ['"YQ=="', '""'], ['"YQ"', '"YR=="', '"é"']),
    (pydantic.Base64UrlBytes, ['"_-A="'], ['"/+A="']),
    (pydantic.IPvAnyAddress, ['"127.0.0.1"', '"::1"'], ['"127.0.0.256"', '"x"']),
    (Annotated[int, pydantic.Field(strict=True)], ["5"], ["5.0"]),
    (Annotated[list[int], pydantic.Field(min_length=2, max_length=3)], ["[1, 2]"], ["[1]", "[1, 2, 3, 4]"]),
]


@pytest.mark.parametrize(("type_", "good", "bad"), CASES, ids=lambda case: getattr(case, "__name__", None))
def test_types(type_: Any, good: list[str], bad: list[str]) -> None:
    grammar, adapter = from_type(type_), pydantic.TypeAdapter(type_)
    for text in good:
        adapter.validate_json(text)
        assert accepts(grammar, text), text
    for text in bad:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize("type_", [case[0] for case in CASES], ids=lambda case: getattr(case, "__name__", None))
def test_random_texts_are_read_back(type_: Any) -> None:
    chance, adapter, done = random.Random(9), pydantic.TypeAdapter(type_), 0
    grammar = from_type(type_)
    for _ in range(12):
        text = walk(grammar, chance, 300)
        if text is not None:
            adapter.validate_json(text)
            done += 1
    assert done or type_ in (Person, Movie)  # long strings seldom end by chance


def test_it_is_the_schemas_grammar() -> None:
    assert from_type(Movie).key == json_schema(schema_of(Movie)).key
    assert accepts(from_type(pydantic.TypeAdapter(list[int]), whitespace="compact"), "[1,2]")


@pytest.mark.parametrize("type_", [Callable[[int], int], "not a type", object(), pydantic.Json[int]])
def test_what_has_no_form_in_json_is_refused(type_: Any) -> None:
    with pytest.raises(GrammarError):
        from_type(type_)
