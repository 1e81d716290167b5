"""Typed outputs: what may be generated for a type is what can be read as it, and nothing else."""

from __future__ import annotations

import enum
import json
import re
import typing
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, Optional

import jsonschema_rs
import pydantic
import pytest
import typing_extensions
from ramify.errors import ProgramError
from ramify.lang.sampling import Constraint
from ramify.lang.typed import DATE, constraint_for, type_name, value_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float


class Named(typing.TypedDict):
    name: str
    age: typing_extensions.NotRequired[int]


class Tree(pydantic.BaseModel):
    label: Annotated[str, pydantic.Field(min_length=1)]
    children: list[Tree] = []


# type, texts that are one with their values, texts that are none
CASES: list[tuple[Any, dict[str, Any], list[str]]] = [
    (int, {"42": 42, "-7": -7, "0": 0}, ["", "4x", "1.5", "007", "+1"]),
    (float, {"1.5": 1.5, "-2": -2.0}, ["", ".", "1.", "abc"]),
    (bool, {"true": True, "false": False}, ["yes", "True!", ""]),
    (date, {"2024-02-29": date(2024, 2, 29)}, ["2023-02-29", "2024-13-01", "24-1-1", "2024-00-10"]),
    (datetime, {"2024-02-29T23:59:59": datetime(2024, 2, 29, 23, 59, 59)},
     ["2024-02-29T24:00:00", "2024-02-30T00:00:00"]),
    (Colour, {"red": Colour.RED}, ["green", ""]),
    (Level, {"2": Level.HIGH}, ["3", ""]),
    (Literal["a", "b", 3], {"a": "a", "3": 3}, ["c", "33"]),
    (Optional[int], {"5": 5, "null": None}, ["none", "x"]),  # noqa: UP045 - people still write it
    (Colour | None, {"blue": Colour.BLUE, "null": None}, ["nul"]),
    (list[int], {"[1, 2]": [1, 2], "[]": []}, ['["a"]', "1, 2"]),
    (Point, {'{"x": 1, "y": 2.5}': Point(1, 2.5)}, ['{"x": 1}', '{"x": "a", "y": 1}', '{"x": 1, "y": 2, "z": 3}']),
    (Named, {'{"name": "a"}': {"name": "a"}, '{"name": "a", "age": 3}': {"name": "a", "age": 3}}, ["{}"]),
    (list[Named], {'[{"name": "a"}]': [{"name": "a"}]}, ["[{}]"]),
    (Tree, {'{"label": "r", "children": [{"label": "l"}]}': Tree(label="r", children=[Tree(label="l")])},
     ['{"label": ""}', '{"children": []}']),
    (Annotated[int, pydantic.Field(ge=1, le=5)], {"5": 5}, ["6", "0"]),
    (int | list[int], {"[1]": [1], "3": 3}, ['"3"', "[[1]]"]),
]  # fmt: skip


def obeys(text: str, constraint: Constraint | None) -> bool:
    """Whether a text may be generated under a constraint; libraries of others judge."""
    if constraint is None:
        return True
    if constraint.kind == "regex":
        return re.fullmatch(constraint.source, text) is not None
    if constraint.kind == "choices":
        return text in constraint.source
    try:
        return jsonschema_rs.is_valid(constraint.source, json.loads(text))
    except json.JSONDecodeError:
        return False


@pytest.mark.parametrize(("wanted", "right", "wrong"), CASES, ids=lambda case: type_name(case) if case else None)
def test_what_obeys_is_read_and_what_does_not_is_refused(wanted: Any, right: dict[str, Any], wrong: list[str]) -> None:
    constraint = constraint_for(wanted)
    for text, value in right.items():
        assert obeys(text, constraint), text
        read = value_of(text, wanted)
        assert read == value
        assert type(read) is type(value)
    for text in wrong:
        assert not obeys(text, constraint), text


def test_every_day_that_exists_and_no_other() -> None:
    days = 0
    for year in (1000, 1900, 2000, 2023, 2024, 2100, 2400, 9999):
        for month in range(14):
            for day in range(33):
                text = f"{year:04}-{month:02}-{day:02}"
                try:
                    exists = bool(date.fromisoformat(text))
                except ValueError:
                    exists = False
                assert (re.fullmatch(DATE, text) is not None) == exists, text
                days += exists
    assert days == 8 * 365 + 3  # 2000, 2024 and 2400 are leap years


def test_a_string_is_any_text() -> None:
    assert constraint_for(str) is None
    assert value_of("anything\n", str) == "anything\n"


@pytest.mark.parametrize("wanted", [object(), lambda x: x, re.compile("a"), 3])
def test_what_is_no_type_is_refused(wanted: Any) -> None:
    with pytest.raises(ProgramError, match="type="):
        constraint_for(wanted)


def test_a_text_that_was_cut_says_what_to_do() -> None:
    with pytest.raises(ProgramError, match=r"not a Point.*raise max_tokens"):
        value_of('{"x": 1, "y"', Point)


def test_two_values_of_one_spelling_become_json() -> None:
    assert constraint_for(Literal["1", 1]) == Constraint("json_schema", {"enum": ["1", 1]})
