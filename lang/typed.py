"""Typed outputs: `gen("x", type=T)` obeys T while it is generated, and what is read back is a T.

A scalar is plain text (`42`, `2026-11-20`, `red`), because that is what a prompt wants to go on from; everything with
parts is JSON. pydantic describes the types and reads the values.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import typing_extensions

from ..errors import ProgramError
from .sampling import Constraint

INTEGER = r"-?(0|[1-9][0-9]{0,17})"
NUMBER = r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?"
DATE = (  # the days that exist, from the year 1000 to 9999
    r"([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    r"|([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
)
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
PLAIN = {int: INTEGER, float: NUMBER, Decimal: NUMBER, date: DATE, time: TIME, datetime: f"{DATE}T{TIME}"}
NONE = "null"


@dataclass(frozen=True, slots=True)
class PlainForm:
    """How a scalar type is written as plain text: what may be generated, and what it means."""

    pattern: str | None = None  # a regular expression; None: any text
    options: tuple[str, ...] = ()  # or one of these texts
    values: Mapping[str, Any] | None = None  # the value of each option


def constraint_for(wanted: Any) -> Constraint | None:
    """What a text must obey so that `value_of` can read it as this type; None: any text is one.

    Raises ProgramError for types that cannot be described.
    """
    form = plain_form(wanted)
    if form is None:
        return Constraint("json_schema", json_schema(wanted))
    if form.options:
        return Constraint("choices", form.options)
    return None if form.pattern is None else Constraint("regex", form.pattern)


def value_of(text: str, wanted: Any) -> Any:
    """The text as a value of the type. Raises ProgramError when it is not one: cut short, say."""
    form = plain_form(wanted)
    try:
        if form is None:
            return adapter(wanted).validate_json(text)
        if form.values is not None and text in form.values:
            return form.values[text]
        return adapter(wanted).validate_python(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProgramError(
            f"{text if len(text) < 80 else text[:77] + '...'!r} is not a {type_name(wanted)}: {first['msg']}"
            f"{' at ' + where if where else ''}; if finish_reason is 'length', raise max_tokens"
        ) from error


def json_schema(wanted: Any) -> dict[str, Any]:
    """pydantic's JSON Schema of a type, its objects closed: a type's fields are all that a model should write."""
    try:
        schema: dict[str, Any] = closed(adapter(wanted).json_schema())
        return schema
    except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise ProgramError(f"type={type_name(wanted)} has no JSON Schema: {str(error).splitlines()[0]}") from error


def closed(schema: Any) -> Any:
    """The schema, with no more properties than each object names, where it does not say otherwise."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: value if key in ("const", "enum", "default", "examples") else closed(value)
        for key, value in schema.items()
    }
    if inner.get("type") == "object" and isinstance(inner.get("properties"), dict):
        inner.setdefault("additionalProperties", False)
    return inner


def adapter(wanted: Any) -> pydantic.TypeAdapter[Any]:
    """pydantic's view of a type, made once for each (types that cannot be hashed: each time)."""
    try:
        return _adapter(wanted)
    except TypeError:
        return _new_adapter(wanted)


def _new_adapter(wanted: Any) -> pydantic.TypeAdapter[Any]:
    try:
        if isinstance(wanted, types.FunctionType):
            raise pydantic.errors.PydanticUserError("a function is no type", code=None)
        return pydantic.TypeAdapter(readable(wanted))
    except pydantic.errors.PydanticUserError as error:
        raise ProgramError(
            f"type={wanted!r} is not a type that can be generated: use a pydantic model, dataclass, TypedDict, Enum, "
            "Literal, int, float, bool, str, date, list, or an optional or union of these"
        ) from error


_adapter = lru_cache(1024)(_new_adapter)


def readable(wanted: Any) -> Any:
    """The type, each typing.TypedDict in it as typing_extensions' own: pydantic reads no other before Python 3.12."""
    if typing.is_typeddict(wanted):
        hints = typing.get_type_hints(wanted, include_extras=True)
        marked = {
            name: readable(hint) if name in wanted.__required_keys__ else typing_extensions.NotRequired[readable(hint)]
            for name, hint in hints.items()
        }
        return typing_extensions.TypedDict(wanted.__name__, marked)  # type: ignore[operator]
    arguments = get_args(wanted)
    changed = tuple(readable(argument) if typing.is_typeddict(argument) else argument for argument in arguments)
    return wanted if changed == arguments else get_origin(wanted)[changed]


def plain_form(wanted: Any) -> PlainForm | None:
    """How the type is written as plain text; None: as JSON."""
    if wanted is str:
        return PlainForm()
    if wanted is bool:
        return _options({"true": True, "false": False})
    if isinstance(wanted, type) and wanted in PLAIN:
        return PlainForm(PLAIN[wanted])
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return _options({_spelled(member.value): member for member in wanted}, len(wanted))
    origin = get_origin(wanted)
    if origin is Literal:
        return _options({_spelled(value): value for value in get_args(wanted)}, len(get_args(wanted)))
    if origin in (Union, types.UnionType):
        return _optional([part for part in get_args(wanted) if part is not types.NoneType], get_args(wanted))
    if origin is Annotated and wanted.__origin__ is str:
        return None if json_schema(wanted).keys() - {"type", "title", "description"} else PlainForm()
    return None


def _optional(parts: list[Any], whole: tuple[Any, ...]) -> PlainForm | None:
    """A scalar or `null`; other unions are JSON."""
    if len(parts) != 1 or len(whole) != 2 or parts[0] is str:
        return None
    form = plain_form(parts[0])
    if form is None:
        return None
    if form.options:
        return _options({**(form.values or {}), NONE: None})
    return PlainForm(f"({form.pattern}|{NONE})", values={NONE: None})


def _options(values: Mapping[str, Any], wanted: int | None = None) -> PlainForm | None:
    """The texts of a closed set; None where two values would have one text, so that JSON must tell them apart."""
    if not values or (wanted is not None and len(values) != wanted) or "" in values:
        return None
    return PlainForm(options=tuple(values), values=dict(values))


def _spelled(value: Any) -> str:
    if value is None:
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def type_name(wanted: Any) -> str:
    """A type as people write it."""
    return wanted.__name__ if isinstance(wanted, type) else re.sub(r"\b(typing|builtins)\.", "", str(wanted))
