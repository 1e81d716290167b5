"""Tracing: which bodies become whole templates, where the others stop, and why."""

from __future__ import annotations

import inspect
import json
import random
import re
import textwrap
import time
from typing import Any

import pytest
import ramify as sgl
from ramify.lang.graph.graph import Append, Fork, Graph, Join
from ramify.lang.graph.references import Argument, Composed
from ramify.lang.graph.trace import trace
from ramify.lang.sampling import Sampling

ARGUMENTS = {"q": "hello", "words": ["a", "b"], "n": 2}


def traced(body: Any, **arguments: Any) -> Graph:
    return trace(body, body.__name__, arguments or ARGUMENTS, Sampling())


# -- whole ------------------------------------------------------------------------------------------------------------


def straight(s: Any, q: str, words: list[str], n: int) -> Any:
    s += f"Q: {q}\n" + sgl.gen("a") + "so " + q.strip().upper()
    for index, word in enumerate(words):
        s += f"{index}: {word}" + (", " if index else "")
    if len(words) > 1 and n == 2:
        s += "many" + ", ".join(words) + "".join(f"<{word}>" for word in words)
    return s["a"]


def forks(s: Any, q: str, words: list[str], n: int) -> None:
    branches = s.fork(n)
    branches += lambda index: f"{index} {q}" + sgl.gen("x")
    branches.join()
    for value in s["x"]:
        s += value
    s += f"{len(s['x'])} of {s['x']}" + sgl.select("c", choices=[s["x"][0], q, "none"])


def roles(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.system("Be short.")
    with s.user():
        s += q
    with s.var_scope("whole"), s.assistant():
        s += sgl.gen("a", stop=q)
    s["kept"] = s["whole"] + "!"
    with s.copy() as c:
        c += s["kept"] + sgl.gen("z")
    s.user(s["z"][0])


@sgl.function
def inner(s: Any, text: str) -> Any:
    s += "inner " + text + sgl.gen("i")
    return s["i"]


def nested(s: Any, q: str, words: list[str], n: int) -> Any:
    made = inner(s, f"{q}?")
    s += inner(made)
    return {"made": [made], "state": s}


def pure(s: Any, q: str, words: list[str], n: int) -> None:
    s += textwrap.dedent("  a\n  b") + json.dumps({"a": [1, 2]}) + str(max(n, 3)) + "x,y".split(",")[0]  # noqa: SIM905
    s += re.sub("b", "c", "abc")


async def waits(s: Any, q: str, words: list[str], n: int) -> None:
    s += q + sgl.gen("a")
    s += "again " + await s.get("a")


@pytest.mark.parametrize("body", [straight, forks, roles, nested, pure, waits])
def test_whole_templates(body: Any) -> None:
    graph = traced(body)
    assert graph.stop is None, graph.stop
    assert graph.order and graph.arguments() in (("q",), ("q", "words"), ())


# -- stopped ----------------------------------------------------------------------------------------------------------


def compares(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a" + sgl.gen("x")
    if s["x"] == "yes":  # here
        s += "b"


def compares_a_built_text(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    text = f"{s['x']} {q}"
    if text == "yes no":  # here
        s += "b"


def measures_a_built_text(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    text = "".join([s["x"], s["x"]])
    s += str(len(text))  # here


def looks_up(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    s += {"a b": "c"}.get(f"{s['x']} b", "none")  # here


def makes_a_number(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    s += "a" * int(s["x"])  # here


def swallows(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    try:
        int(f"{s['x']}0")  # here
    except Exception:
        s += "none"


def matches(s: Any, q: str, words: list[str], n: int) -> None:
    s += sgl.gen("x")
    if re.search("[0-9]", s["x"]):  # here
        s += "b"


def rolls_dice(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a"
    s += random.choice(["b", "c"])  # here


def asks_the_time(s: Any, q: str, words: list[str], n: int) -> None:
    s += str(time.time())  # here


def prints(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a"
    print("hello")  # noqa: T201 # here


def upper_case(s: Any, q: str, words: list[str], n: int) -> None:
    s += f"{q} {q}".upper()  # here


def cuts(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a"
    s += f"{q} {q}"[:5]  # here


def reads_the_text(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a" + sgl.gen("x")
    s += s.text()  # here


def reads_meta(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a" + sgl.gen("x")
    s += str(s.get_meta_info("x")["prompt_tokens"])  # here


def reads_errors(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a" + sgl.gen("x")
    if s.error() is None:  # here
        s += "b"


def reads_what_is_not_set(s: Any, q: str, words: list[str], n: int) -> None:
    s += "a"
    s += s["x"]  # here


def dedents(s: Any, q: str, words: list[str], n: int) -> None:
    s += textwrap.dedent(f"  {q}\n  b")  # here


STOPPED = [
    compares, compares_a_built_text, measures_a_built_text, looks_up, makes_a_number, swallows, matches, rolls_dice,
    asks_the_time, prints, upper_case, cuts, reads_the_text, reads_meta, reads_errors, reads_what_is_not_set, dedents,
]  # fmt: skip


@pytest.mark.parametrize("body", STOPPED)
def test_stops_before_the_line_that_looks(body: Any) -> None:
    graph = traced(body)
    lines, first = inspect.getsourcelines(body)
    here = first + next(index for index, line in enumerate(lines) if line.rstrip().endswith("# here"))
    assert graph.stop is not None and graph.stop.place is not None, "it did not stop"
    assert (graph.stop.place.file, graph.stop.place.line) == (__file__, here)
    before = sum("s +=" in line for line in lines[: here - first])
    texts = [item for _, item in graph.items() if isinstance(item, Append)]
    assert len(texts) <= before, "nothing of what comes after the look is in the template"
    assert str(graph.stop).startswith(f"{__file__}:{here}: ")


def test_without_the_lookouts_a_look_at_a_built_text_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the test above sees what lookouts.py is for."""
    monkeypatch.setattr("ramify.lang.graph.guard.looks", lambda filename: {})
    assert traced(compares_a_built_text).stop is None


def test_without_the_guard_dice_and_prints_would_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ramify.lang.graph.guard._Watch._check", lambda self, function: None)
    assert traced(prints).stop is None and capsys.readouterr().out == "hello\n" * 2


def test_two_traces_that_differ_end_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.lang.graph.guard._Watch._check", lambda self, function: None)

    def body(s: Any) -> None:
        s += "a"
        s += str(random.random())
        s += "b"

    graph = trace(body, "body", {}, Sampling())
    assert len(graph.order) == 1 and graph.stop is not None and "not the same twice" in graph.stop.reason


def test_a_look_at_an_argument_names_it() -> None:
    def body(s: Any, q: str, words: list[str], n: int) -> None:
        s += "a"
        if words[1] == "b":
            s += "b"

    graph = traced(body)
    assert graph.stop is not None and graph.stop.arguments == (Argument(("words", 1)),)
    known = trace(body, "body", ARGUMENTS, Sampling(), known=[("words", 1)])
    assert known.stop is None and len(known.order) == 2


def test_a_body_that_catches_everything_gets_no_further() -> None:
    def body(s: Any, q: str) -> None:
        s += "a"
        try:  # noqa: SIM105 - people write it so
            len(q)
        except BaseException:
            pass
        s += "b"

    graph = traced(body, q="x")
    assert len(graph.order) == 1 and graph.stop is not None and "length of the argument q" in graph.stop.reason


def test_the_profiler_and_the_tracer_are_put_back() -> None:
    import sys

    before = sys.getprofile(), sys.gettrace()
    traced(compares)
    assert (sys.getprofile(), sys.gettrace()) == before


def test_edges() -> None:
    graph = traced(forks)
    kinds = [edge.kind for edge in graph.edges()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "fork": 2,
        "join": 2,
        "use": 4,  # two values, one text of both and their count, the options
        "order": len(graph.streams[0].items) - 1 + 2,
    }
    place = {position: index for index, position in enumerate(graph.order)}
    assert all(place[edge.before] < place[edge.after] for edge in graph.edges()), "edges point forward"
    fork, join = (next(item for _, item in graph.items() if isinstance(item, kind)) for kind in (Fork, Join))
    assert isinstance(fork, Fork) and isinstance(join, Join)
    assert fork.children == join.children == (1, 2) and join.names == ("x",)


def test_holes_are_in_every_place_that_takes_a_text() -> None:
    graph = traced(forks)
    select = graph.streams[0].items[-1]
    assert isinstance(select, sgl.lang.nodes.Select)
    assert [type(choice) for choice in select.choices] == [Composed, Composed, str]


def test_a_body_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramify.lang.graph.recorder.MOST_ITEMS", 50)

    def body(s: Any) -> None:
        while True:
            s += "a"

    graph = trace(body, "body", {}, Sampling())
    assert len(graph.order) == 50 and graph.stop is not None and "50 items" in graph.stop.reason
