"""What explain() says before anything runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
import ramify as sgl
from ramify.lang.graph.explain import Explanation

HOSTILE = '<script>alert("1")</script> & `x` ]]> "quoted" #end; \x00 \ud800 --> end'


@sgl.function
def judge(s: Any, essay: str, count: int = 5) -> None:
    s += sgl.system("You judge.") + sgl.user("Essay: " + essay)
    forks = s.fork(count)
    for index, fork in enumerate(forks):
        fork += f"Point {index}: " + sgl.gen("point", max_tokens=30)
    forks.join()
    s += "; ".join(s["point"]) + sgl.select("grade", choices=["good", "bad"]) + sgl.gen("why", max_tokens=40)


def explained(program: sgl.SglFunction, *args: Any, **kwargs: Any) -> Explanation:
    return program.explain(*args, backend=sgl.Mock(), **kwargs)


def test_text_says_what_is_asked_shared_and_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(judge)
    printed = capsys.readouterr().out
    assert printed == f"{found}\n"
    assert "judge(essay)" in printed and "Essay: {essay}" in printed
    assert "branch 2 and 3 more like it" in printed and "one of 5 at once" in printed
    assert "7 calls of the model, at most 5 at once" in printed and "at most 190 to generate" in printed
    assert "critical path: point → grade → why" in printed
    assert found.prompt_tokens > 2 * found.prefill_tokens and "is reused" in printed


def test_numbers_follow_the_arguments() -> None:
    short, long = explained(judge, "one two"), explained(judge, "one two " * 100)
    assert long.prefill_tokens > short.prefill_tokens == explained(judge, "two one").prefill_tokens
    assert explained(judge, count=50).gens == 52


def test_one_is_one() -> None:
    @sgl.function
    def single(s: Any) -> None:
        s += "a" + sgl.gen("x", max_tokens=1)

    found = explained(single)
    assert "1 call of the model" in str(found) and "at most 1 token," in str(found) and "1 call of" in repr(found)
    assert "[1 gen:" in str(single.run(backend=sgl.Mock()).stats())


def test_nothing_runs() -> None:
    backend = sgl.Mock()
    judge.explain(backend=backend)
    assert not backend.counts


def test_where_a_template_stops_is_said() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x")
        if s["x"] == "y":
            s += "b"

    found = explained(program)
    assert "the template stops at" in str(found) and "compares 'x'" in str(found)
    assert "stop[" in found.mermaid()


@sgl.function
def hostile(s: Any, q: str) -> None:
    s += HOSTILE + sgl.gen("<b>")
    forks = s.fork(2)
    forks += f"{HOSTILE} {q}" + sgl.gen("x", regex="[<>&]+") + sgl.select("y", choices=[HOSTILE, "a"])
    forks.join()
    s += s["x"][0]


def test_drawings_hold_any_text() -> None:
    drawing = _without_surrogates(hostile).svg()
    tree = ET.fromstring(drawing)
    assert tree.tag.endswith("svg") and "<script" not in drawing
    assert float(tree.attrib["width"]) > 0 and float(tree.attrib["height"]) > 0
    mermaid = _without_surrogates(hostile).mermaid()
    assert "<script" not in mermaid and '"quoted"' not in mermaid
    assert sum(line.strip().startswith("subgraph") for line in mermaid.splitlines()) == sum(
        line.strip() == "end" for line in mermaid.splitlines()
    )


def _without_surrogates(program: sgl.SglFunction) -> Explanation:
    global HOSTILE
    before, HOSTILE = HOSTILE, HOSTILE.replace("\ud800", "")
    try:
        return explained(program)
    finally:
        HOSTILE = before


def test_every_box_is_inside_the_drawing() -> None:
    tree = ET.fromstring(explained(judge).svg())
    width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
    boxes = [box.attrib for box in tree.iter("{http://www.w3.org/2000/svg}rect") if "x" in box.attrib]
    assert len(boxes) > 8
    for box in boxes:
        assert float(box["x"]) >= 0 and float(box["x"]) + float(box["width"]) <= width
        assert float(box["y"]) >= 0 and float(box["y"]) + float(box["height"]) <= height
    places = [(box["x"], box["y"]) for box in boxes]
    assert len(set(places)) == len(places), "no box lies on another"


def test_big_and_deep_programs_are_drawn_small() -> None:
    @sgl.function
    def deep(s: Any) -> None:
        for _ in range(50):
            s = s.fork(2)[0]
            s += "a" + sgl.gen("x")

    assert len(explained(judge, count=500).svg()) < 20_000
    found = explained(deep)
    assert str(found) and found.svg() and found.mermaid()
