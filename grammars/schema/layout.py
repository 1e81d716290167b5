"""The bytes between the values of a JSON text: braces, brackets, commas, colons and the blanks around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...errors import GrammarError
from ..expression import EMPTY, Expression, bytes_in, concat, either, literal, repeat

WHITESPACES = ("fixed", "compact", "flexible", "free")
_MOST_BLANKS = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """How a JSON text is punctuated; `edge` stands before and after the whole text."""

    opening_object: Expression
    closing_object: Expression
    opening_array: Expression
    closing_array: Expression
    colon: Expression
    comma: Expression
    edge: Expression


@lru_cache(64)
def layout(whitespace: str, separators: tuple[str, str] | None = None) -> Layout:
    """The layout of that name, or with exactly these separators: (between members, after a key), as `json.dumps`.

    - "fixed": `, ` and `: `, as json.dumps writes; nothing else.
    - "compact": `,` and `:`.
    - "flexible": after an opening, a comma or a colon and before a closing: nothing, one space, or one line break and
      at most 32 blanks of indentation.
    - "free": at most 32 blanks of any kind wherever JSON allows blanks.
    """
    if whitespace not in WHITESPACES:
        raise GrammarError(f"whitespace={whitespace!r} is not one of {', '.join(WHITESPACES)}")
    if separators is not None or whitespace in ("fixed", "compact"):
        comma, colon = separators or ((", ", ": ") if whitespace == "fixed" else (",", ":"))
        if comma.strip(" \t\r\n") != "," or colon.strip(" \t\r\n") != ":":
            raise GrammarError(f"separators={separators!r}: a comma and a colon, with blanks around them")
        return _layout(EMPTY, literal(comma.encode()), literal(colon.encode()), EMPTY)
    if whitespace == "flexible":
        indentation = repeat(either([literal(b" "), literal(b"\t")]), 0, _MOST_BLANKS)
        blank = either([EMPTY, literal(b" "), concat([literal(b"\n"), indentation])])
        return _layout(
            blank, concat([literal(b","), blank]), concat([literal(b":"), either([EMPTY, literal(b" ")])]), EMPTY
        )
    blank = repeat(bytes_in(b" \t\r\n"), 0, _MOST_BLANKS)
    return _layout(blank, concat([blank, literal(b","), blank]), concat([blank, literal(b":"), blank]), blank)


def _layout(blank: Expression, comma: Expression, colon: Expression, edge: Expression) -> Layout:
    return Layout(
        opening_object=concat([literal(b"{"), blank]),
        closing_object=concat([blank, literal(b"}")]),
        opening_array=concat([literal(b"["), blank]),
        closing_array=concat([blank, literal(b"]")]),
        colon=colon,
        comma=comma,
        edge=edge,
    )
