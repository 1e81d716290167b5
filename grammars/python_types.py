"""Grammars from Python types: pydantic says the type as a JSON schema, and the text is what it would read back."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..errors import GrammarError
from .grammar import Grammar
from .schema.compile import Order, Whitespace
from .schema.front import json_schema

# Formats by which pydantic says that any text will do, or that it checks what no schema says.
_SAYS_NOTHING = frozenset({"binary", "password", "path", "file-path", "directory-path", "json-string"})


# What pydantic reads where its schema has a format that JSON Schema does not know, or allows more than it reads.
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
_HEX = "[0-9a-f]"
_PATTERNS = {
    "base64": _BASE64,
    "base64url": _BASE64.replace("+", "_").replace("/", "-"),
    "duration": "^-?P(?=[0-9T])([0-9]{1,6}D)?(T(?=[0-9])([0-9]{1,2}H)?([0-9]{1,2}M)?([0-9]{1,2}(\\.[0-9]{1,6})?S)?)?$",
    **{f"uuid{i}": f"^{_HEX}{{8}}-{_HEX}{{4}}-{i}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}$" for i in range(1, 9)},
}


class _Schemas(GenerateJsonSchema):
    """Pydantic's, but for a Decimal: a number, for not every string is one."""

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        """As str(complex) writes it."""
        return {"type": "string", "pattern": "^-?[0-9]{1,9}(\\.[0-9]{1,9})?([+-][0-9]{1,9}(\\.[0-9]{1,9})?j)?$"}

    def json_schema(self, schema: core_schema.JsonSchema) -> JsonSchemaValue:
        """JSON within a string cannot be followed."""
        raise PydanticInvalidForJsonSchema(
            "JSON within a string (pydantic.Json) cannot be followed: give the inner type"
        )

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        found = super().decimal_schema(schema)
        numbers = [one for one in found.get("anyOf", ()) if one.get("type") == "number"]
        return numbers[0] if numbers else found


def schema_of(type_: Any) -> dict[str, Any]:
    """The JSON schema of what pydantic reads as `type_`. Raises GrammarError for a type that JSON cannot carry."""
    if isinstance(type_, str):
        raise GrammarError(f"{type_!r} is a string: give the type itself, for no text is evaluated here")
    if isinstance(type_, TypeAdapter):
        adapter = type_
    else:
        try:
            adapter = TypeAdapter(type_)
        except PydanticUserError as error:
            raise GrammarError(f"pydantic cannot read {_shown(type_)}: {_first_line(error)}") from None
        except (TypeError, NameError, RecursionError) as error:
            raise GrammarError(f"{_shown(type_)} is not a type that can be read: {error}") from None
    try:
        found = adapter.json_schema(mode="validation", schema_generator=_Schemas)
    except PydanticInvalidForJsonSchema as error:
        raise GrammarError(f"{_shown(type_)} has no form in JSON: {_first_line(error)}") from None
    except PydanticUserError as error:
        raise GrammarError(f"pydantic cannot read {_shown(type_)}: {_first_line(error)}") from None
    plain: dict[str, Any] = _plain(found)
    return plain


def from_type(
    type_: Any,
    *,
    whitespace: Whitespace = "fixed",
    order: Order = "schema",
    separators: tuple[str, str] | None = None,
) -> Grammar:
    """JSON texts that pydantic reads as `type_`: a model (recursive ones too), dataclass, TypedDict, Enum, Literal,
    union, `Annotated` with bounds, int, float, bool, str, date, list, dict, Optional, ... or a TypeAdapter.

    Options as for `json_schema`. Raises GrammarError for a type without a form in JSON.
    """
    return json_schema(schema_of(type_), whitespace=whitespace, order=order, separators=separators)


def _plain(schema: Any) -> Any:
    """The schema without formats that say nothing, and with patterns for those that only pydantic knows."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    format_ = schema.get("format")
    if format_ == "ipvanyaddress":
        return {"anyOf": [schema | {"format": "ipv4"}, schema | {"format": "ipv6"}]}
    if isinstance(format_, str) and format_ in _PATTERNS and "pattern" not in schema:
        return {name: value for name, value in schema.items() if name != "format"} | {"pattern": _PATTERNS[format_]}
    return {
        name: value if name in ("const", "enum", "default", "examples") else _plain(value)
        for name, value in schema.items()
        if not (name == "format" and isinstance(value, str) and value in _SAYS_NOTHING)
    }


def _shown(type_: Any) -> str:
    return getattr(type_, "__name__", None) or repr(type_)[:80]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
