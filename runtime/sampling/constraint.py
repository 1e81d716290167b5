"""What a generation's text must obey, as a request says it, and what keeps watch over it token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from ...errors import InvalidRequest

Kind = Literal["regex", "json_schema", "ebnf", "choices", "structural_tag", "grammar"]
KINDS: tuple[Kind, ...] = ("regex", "json_schema", "ebnf", "choices", "structural_tag", "grammar")
MAX_SOURCE_CHARACTERS = 16 << 20
MAX_CHOICES = 100_000


class Matcher(Protocol):
    """A text on its way through a grammar (ramify.grammars.Matcher): which tokens may follow, and what must."""

    def mask(self) -> npt.NDArray[np.uint32]:
        """One bit for each token that may follow; read-only."""
        ...

    def allowed(self, limit: int = 256) -> npt.NDArray[np.int32] | None:
        """The ids of the tokens that may follow, ascending, when there are at most `limit`."""
        ...

    def accept(self, token: int) -> bool: ...

    def accept_bytes(self, data: bytes) -> bool: ...

    def rollback(self, count: int) -> None: ...

    def forced(self) -> bytes:
        """The text that must follow, as far as there is no choice."""
        ...

    @property
    def accepting(self) -> bool: ...

    @property
    def finished(self) -> bool:
        """The text is complete and nothing may follow."""
        ...

    def copy(self) -> Matcher: ...


@dataclass(frozen=True, slots=True)
class Constraint:
    """One grammar in the caller's words: `source` is a pattern, a schema, a grammar's text, or a compiled Grammar."""

    kind: Kind
    source: Any
    options: Mapping[str, Any] = field(default_factory=dict)


def constraint_of(
    values: Mapping[Kind, Any], options: Mapping[str, Any] | None, whitespace: str | None
) -> Constraint | None:
    """The one constraint among these parameters, or None. Checks forms, not contents: that is the compiler's work."""
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise InvalidRequest("grammar_options: expected a mapping from names to values.")
    if whitespace is not None and not isinstance(whitespace, str):
        raise InvalidRequest(f"whitespace: expected a string, not {type(whitespace).__name__}.")
    given = [kind for kind in KINDS if values[kind] is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} were given: a text can obey one of them; give one.")
    if not given:
        if options or whitespace is not None:
            raise InvalidRequest("grammar_options and whitespace need a constraint beside them, such as json_schema.")
        return None
    kind, source = given[0], values[given[0]]
    merged = dict(options or {})
    if whitespace is not None:
        if kind != "json_schema":
            raise InvalidRequest(f"whitespace={whitespace!r:.40} is for json_schema; it means nothing for {kind}.")
        merged["whitespace"] = whitespace
    if kind in ("regex", "ebnf"):
        source = _text(kind, source)
    elif kind == "choices":
        source = _choices(source)
    elif kind == "grammar":
        if not hasattr(source, "matcher") or merged:
            raise InvalidRequest("grammar: expected a ramify.grammars.Grammar (its options are in it already).")
    elif isinstance(source, str):
        source = _text(kind, source)
    elif not isinstance(source, Mapping | bool | Sequence):
        raise InvalidRequest(f"{kind}: expected a mapping or JSON text, not {type(source).__name__}.")
    return Constraint(kind, source, merged)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: expected a string, not {type(value).__name__}.")
    if len(value) > MAX_SOURCE_CHARACTERS:
        raise InvalidRequest(f"{name}: {len(value):,} characters are too many; at most {MAX_SOURCE_CHARACTERS:,}.")
    return value


def _choices(value: object) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
        raise InvalidRequest("choices: expected a list of at least one string.")
    if len(value) > MAX_CHOICES:
        raise InvalidRequest(f"choices: {len(value):,} are too many; at most {MAX_CHOICES:,}.")
    return tuple(_text("choices", cast(object, one)) for one in value)
