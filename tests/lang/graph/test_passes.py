"""The passes: what each does to a graph, and that switching it off changes no text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import ramify as sgl
from ramify.lang.graph.graph import Append, Fork, Graph, is_model_work
from ramify.lang.graph.passes import ALL_PASSES, NO_PASSES, Passes, apply
from ramify.lang.graph.passes.drop_unread import drop_unread
from ramify.lang.graph.passes.hoist import hoist_shared
from ramify.lang.graph.passes.independent import free_independent
from ramify.lang.graph.passes.merge_constants import merge_constants
from ramify.lang.graph.passes.prioritize import prioritize
from ramify.lang.graph.picture import said
from ramify.lang.graph.trace import trace
from ramify.lang.sampling import Sampling

LONG = "Consider the question with all the care that it deserves. "


def traced(body: Any, **arguments: Any) -> Graph:
    graph = trace(body, "body", arguments, Sampling())
    assert graph.stop is None, graph.stop
    return graph


def texts(graph: Graph, stream: int = 0) -> list[str]:
    """A stream's items: constants as they are, calls as <name>."""
    items = graph.streams[stream].items
    return [
        said(item.text) if isinstance(item, Append) else f"<{getattr(item, 'name', type(item).__name__)}>"
        for item in items
    ]


def calls(graph: Graph) -> int:
    return sum(is_model_work(item) for _, item in graph.items())


def well_formed(graph: Graph) -> None:
    """Every position is in the order once, and every edge points forward in it."""
    positions = [(stream.number, index) for stream in graph.streams for index in range(len(stream.items))]
    assert sorted(positions) == sorted(graph.order)
    place = {position: index for index, position in enumerate(graph.order)}
    for edge in graph.edges():
        assert place[edge.before] < place[edge.after], edge
        if edge.kind == "use":
            assert getattr(graph.item(edge.before), "name", None) in (edge.name, None)


def constants(s: Any, q: str) -> None:
    s += "a"
    s += f"b {q}"
    s += "c" + sgl.gen("x") + "d"
    s += "e"
    s += s["x"] + "f"
    s += s["x"]
    s += "g"


def test_merge_constants() -> None:
    before = traced(constants, q="q")
    assert texts(before) == ["a", "b {q}", "c", "<x>", "d", "e", "{x}f", "{x}", "g"]
    after = merge_constants(before)
    assert texts(after) == ["ab {q}c", "<x>", "de{x}f", "{x}", "g"], "a bare reference is left alone"
    well_formed(after)
    assert merge_constants(after) == after


def branches(s: Any, q: str, count: int) -> None:
    s += q + sgl.gen("x")
    forks = s.fork(count)
    for index, fork in enumerate(forks):
        fork += LONG + f"{q}, part {index}: " + sgl.gen("y")
    forks.join()
    s += "end" + s["y"][0] + sgl.gen("z")


def test_hoist_shared() -> None:
    before = merge_constants(traced(branches, q="q", count=3))
    after = hoist_shared(before)
    well_formed(after)
    fork = next(item for item in after.streams[0].items if isinstance(item, Fork))
    (between,) = fork.children
    assert after.streams[between].shared and texts(after, between) == [LONG + "{q}, part ", "<Fork>"]
    assert [texts(after, child)[0] for child in (1, 2, 3)] == ["0: ", "1: ", "2: "]
    assert texts(after) == texts(before), "the parent's own text is as it was"


def test_hoist_goes_on_within_groups() -> None:
    def body(s: Any) -> None:
        forks = s.fork(5)
        for index, fork in enumerate(forks):
            fork += (LONG if index < 4 else "Something else altogether, which no other branch begins with. ") * 2
            fork += ("In the first place, as everybody knows, " if index < 2 else "On the other hand, it is said, ") * 2
            fork += str(index) + sgl.gen("x")
        forks.join()

    after = hoist_shared(merge_constants(traced(body)))
    well_formed(after)
    shared = [texts(after, stream.number)[0] for stream in after.streams if stream.shared]
    assert len(shared) == 3 and shared[0].startswith(LONG) and sum(text.endswith("knows, ") for text in shared) == 1
    assert max(len(stream.items[-1].children) for stream in after.streams if stream.shared) == 2


def test_hoist_leaves_short_and_appended_branches_alone() -> None:
    def short(s: Any) -> None:
        forks = s.fork(2)
        forks += "Tip: " + sgl.gen("x")
        forks.join()

    def appended(s: Any) -> None:
        forks = s.fork(2)
        forks += LONG + sgl.gen("x")
        forks.join("concate_and_append")

    for body in (short, appended):
        graph = merge_constants(traced(body))
        assert hoist_shared(graph) == graph


def unread(s: Any, q: str) -> Any:
    s += q + sgl.gen("x")
    nobody, part, returned = s.fork(), s.fork(2), s.fork()
    nobody += "a" + sgl.gen("never")
    inner = nobody[0].fork(2)
    inner += "b" + sgl.gen("never either")
    part += sgl.gen("read") + "c" + sgl.gen("not read")
    returned += sgl.gen("kept") + sgl.gen("kept too")
    s += part[1]["read"]
    s += sgl.gen("last")
    return returned[0]


def test_drop_unread() -> None:
    before = traced(unread, q="q")
    after = drop_unread(before)
    well_formed(after)
    assert calls(before) == 11 and calls(after) == 5
    names = [getattr(item, "name", None) for _, item in after.items() if is_model_work(item)]
    assert sorted(names) == ["kept", "kept too", "last", "read", "x"]
    assert drop_unread(after) == after


def test_drop_unread_keeps_everything_of_a_graph_that_stops() -> None:
    before = replace(traced(unread, q="q"), stop=sgl.lang.graph.graph.Stop("here"))
    assert drop_unread(before) == before


def test_joined_branches_are_read_whole() -> None:
    def body(s: Any) -> None:
        forks = s.fork(2)
        forks[0] += sgl.gen("x") + sgl.gen()
        forks.join()

    before = traced(body)
    assert drop_unread(before) == before


def test_free_independent() -> None:
    assert free_independent(traced(branches, q="q", count=2)).waits is False
    stopped = replace(traced(branches, q="q", count=2), stop=sgl.lang.graph.graph.Stop("here"))
    assert free_independent(stopped).waits


def test_prioritize() -> None:
    after = prioritize(traced(branches, q="q", count=2))
    priority = {item.name: item.priority for _, item in after.items() if is_model_work(item)}
    assert priority == {"x": -2, "y": -1, "z": 0}


def test_a_longer_chain_goes_first() -> None:
    def body(s: Any) -> None:
        short, long = s.fork(2)
        short += sgl.gen("a")
        long += sgl.gen("b") + "." + sgl.gen("c") + "." + sgl.gen("d")
        s += short["a"] + long["d"]

    after = prioritize(traced(body))
    assert {item.name: item.priority for _, item in after.items() if is_model_work(item)} == {
        "a": 0, "b": -2, "c": -1, "d": 0,
    }  # fmt: skip


SWITCHES = [NO_PASSES, *(replace(ALL_PASSES, **{name: False}) for name in Passes.__dataclass_fields__)]


@pytest.mark.parametrize("passes", SWITCHES, ids=str)
@pytest.mark.parametrize("body", [constants, branches, unread])
def test_no_switch_changes_a_result(body: Any, passes: Passes) -> None:
    arguments = {"q": "What?", "count": 3} if body is branches else {"q": "What?"}
    program = sgl.function(body)
    plain = program.run(backend=sgl.Mock(), **arguments)
    compiled = program.compile(passes=passes).run(backend=sgl.Mock(), **arguments)
    assert compiled.text() == plain.text() and compiled["x"] == plain["x"]
    if body is unread:
        assert compiled.ret_value.text() == plain.ret_value.text()
    well_formed(apply(traced(body, **arguments), passes))


def test_a_wrong_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the comparison above notices a pass that loses a text."""
    import ramify.lang.graph.passes as passes

    def lossy(graph: Graph) -> Graph:
        first = graph.streams[0]
        return replace(graph, streams=(replace(first, items=(Append("lost"), *first.items[1:])), *graph.streams[1:]))

    monkeypatch.setattr(passes, "prioritize", lossy)
    program = sgl.function(constants)
    assert program.compile().run("q", backend=sgl.Mock()).text() != program.run("q", backend=sgl.Mock()).text()
