"""Symbols: what can be done to a value that is not there, and that nothing can find out what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ramify.lang.graph.references import Argument, Composed, Reference, Value, compose, fill, references
from ramify.lang.graph.symbols import Holes, LookedAt, SymbolicText, is_symbol

TEXT = Argument(("q",))
THING = Value(0, 1, "v")


class Pair(list[Any]):
    name = "a name"


VALUES: dict[Any, Any] = {TEXT: " some {text}, twice ", THING: Pair(["one", 2])}

BUILDING: dict[str, Callable[[Any, Any], str]] = {
    "alone": lambda q, v: f"{q}",
    "f-string": lambda q, v: f"Q: {q} and {v}.",
    "width": lambda q, v: f"[{q:>30}|{q:^9}]",
    "repr": lambda q, v: f"{q!r} {v!r} {v!s}",
    "add": lambda q, v: "<" + q + ">" + q,
    "add in place": lambda q, v: (lambda text: text.__iadd__(q) if hasattr(text, "__iadd__") else text + q)("x"),
    "percent": lambda q, v: "%s" % q + "%s-%s" % (q, v) + "%(a)s" % {"a": q},  # noqa: UP031 - people write it so
    "format": lambda q, v: "{} {0.__class__!s:.0}{q}".replace("{0.__class__!s:.0}", "").format(v, q=q),
    "join": lambda q, v: ", ".join([q, "b", q]) + q.join(["x", "y"]),
    "repeat": lambda q, v: "".join(q for _ in range(3)),
    "methods": lambda q, v: q.strip().upper().replace("TEXT", "T").removesuffix("E").title().zfill(40),
    "argument of a method": lambda q, v: q.replace("some", q.strip()),
    "method of a sum": lambda q, v: (q + "  ").strip(),
    "letters": lambda q, v: q[1] + q[2:5] + q[::-1],
    "items": lambda q, v: f"{v[0]} {v[1]:03d} {v.name}" + v[0],
    "str": lambda q, v: str(q) + str(v),
    "copies": lambda q, v: copy.copy(q) + copy.deepcopy(q),
}

LOOKING: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda q, v: q == "a",
    "== from the right": lambda q, v: "a" == q,  # noqa: SIM300
    "!=": lambda q, v: q != "a",
    "<": lambda q, v: q < "a",
    "== of a value": lambda q, v: v == 1,
    "bool": lambda q, v: bool(q),
    "not": lambda q, v: not v,
    "len": lambda q, v: len(q),
    "int": lambda q, v: int(q),
    "float": lambda q, v: float(v),
    "iteration": lambda q, v: list(q),
    "in": lambda q, v: "a" in q,
    "key": lambda q, v: {q: 1},
    "lookup": lambda q, v: {"a": 1}.get(q),
    "split": lambda q, v: q.split(),
    "startswith": lambda q, v: q.startswith("a"),
    "encode": lambda q, v: q.encode(),
    "isinstance": lambda q, v: isinstance(v, int),
    "arithmetic": lambda q, v: v + 1,
    "call": lambda q, v: v.upper(),
    "range": lambda q, v: range(v),
    "%": lambda q, v: q % 1,
    "*": lambda q, v: q * 2,
    "set attribute": lambda q, v: setattr(v, "x", 1),
}


def symbols(filling: str = "abc \n{}%") -> tuple[Holes, Any, Any]:
    holes = Holes(filling)
    return holes, holes.symbol_of(Reference(TEXT), text=True), holes.symbol_of(Reference(THING), text=False)


@pytest.mark.parametrize("way", BUILDING)
def test_texts_are_built_as_python_builds_them(way: str) -> None:
    holes, q, v = symbols()
    template = holes.read(BUILDING[way](q, v))
    assert isinstance(template, Composed)
    assert fill(template, VALUES.__getitem__) == BUILDING[way](VALUES[TEXT], VALUES[THING])


@pytest.mark.parametrize("way", LOOKING)
def test_nothing_can_look(way: str) -> None:
    holes, q, v = symbols()
    with pytest.raises(LookedAt) as caught:
        LOOKING[way](q, v)
    assert caught.value.sources and caught.value.sources[0] in (TEXT, THING)
    assert holes.ended is caught.value


def test_every_method_of_str_is_recorded_or_refused() -> None:
    """A method that Python adds one day must not silently work on the marker's characters."""
    allowed = {"join", "isascii"}
    inherited = [
        name
        for name in dir(str)
        if not name.startswith("_") and name not in allowed and getattr(SymbolicText, name) is getattr(str, name)
    ]
    assert inherited == []


@pytest.mark.parametrize(
    "damage",
    [ascii, repr, str.upper, lambda t: t[:9], lambda t: t[3:], lambda t: t.replace("b", "x"), str.strip, str.swapcase],
)
def test_a_damaged_marker_is_noticed(damage: Callable[[str], str]) -> None:
    holes, q, _ = symbols("ab " * 20)
    plain = str.__str__(f"{q}{q}")
    assert type(plain) is str
    damaged = damage(plain + " ")
    if damaged == plain:  # strip: nothing was there to damage
        assert isinstance(holes.read(damaged), Composed)
        return
    with pytest.raises(LookedAt):
        holes.read(damaged)


def test_a_users_own_private_characters_are_text() -> None:
    holes, _, _ = symbols()
    assert holes.read("\ue000 \uf8ff é 👍") == "\ue000 \uf8ff é 👍"


def test_the_except_of_a_body_does_not_keep_it() -> None:
    holes, q, _ = symbols()
    with pytest.raises(LookedAt):
        try:
            len(q)
        except Exception:  # as bodies have it
            raise AssertionError("it was kept") from None
    assert holes.ended is not None


def test_references_are_found_wherever_they_are() -> None:
    first, second = Reference(TEXT), Reference(THING)
    inner = Composed(("a", first))
    thing = [{"x": (inner, second)}, "text", 3, Reference(inner)]
    assert [reference.source for reference in references(thing)] == [TEXT, THING, inner, TEXT]
    assert fill(thing, VALUES.__getitem__)[0]["x"][0] == "a" + VALUES[TEXT]
    assert fill("text", VALUES.__getitem__) == "text"


def test_composing_merges_constants() -> None:
    assert compose(iter(["a", "", "b"])) == "ab"
    assert compose(iter(["a", "b", Reference(TEXT), "", "c", "d"])) == Composed(("ab", Reference(TEXT), "cd"))


def test_is_symbol() -> None:
    _, q, v = symbols()
    assert is_symbol(q) and is_symbol(v) and is_symbol(q + "x") and not is_symbol("x") and not is_symbol(None)
