"""The drawing of a run in a notebook: all of it there, all of it escaped."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import ramify as sgl
from ramify.lang.view import MOST_BRANCHES, html_of

from .manual import Manual

HOSTILE = "<script>alert('1')</script> & \"quoted\" \x00 é 👍"


class Reader(HTMLParser):
    """Checks that tags close as they opened; keeps texts and tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == [], "every tag closes"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@sgl.function
def program(s: Any, q: str, count: int) -> None:
    s += sgl.user(q) + sgl.assistant(sgl.gen("<first>"))
    forks = s.fork(count)
    for index, fork in enumerate(forks):
        fork += f"{q} {index} " + sgl.select("pick", choices=["a", HOSTILE]) + sgl.gen("y")
    forks.join()
    s += "end"


def test_everything_is_there_and_escaped() -> None:
    state = program.run(HOSTILE, 3, backend=sgl.Mock(lambda prompt, call: HOSTILE))
    page = state._repr_html_()
    assert "<script" not in page and "alert(" in page
    reader = Reader(page)
    shown = HOSTILE.replace("\x00", "�")
    assert sum(shown in text for text in reader.texts) >= 1 + 1 + 3 * 3
    marks = [attributes for tag, attributes in reader.tags if tag == "mark"]
    assert [mark["class"] for mark in marks] == ["gen", *["select", "gen"] * 3]
    assert marks[0]["title"] and "<first>: prompt" in marks[0]["title"] and "cached" in marks[0]["title"]
    assert sum(attributes.get("class") == "fork" for _, attributes in reader.tags) == 3
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe"}, "self-contained"


def test_a_branch_alone_and_a_run_that_goes_on() -> None:
    branches = []

    @sgl.function
    def forking(s: Any) -> None:
        branches.extend(s.fork(2))
        branches[1] += "mine" + sgl.gen("x")

    backend = Manual()
    state = forking.run(backend=backend)
    assert "not finished" in state._repr_html_() and "mine" in branches[1]._repr_html_()
    backend.call(0).finish("done")
    assert "done" in branches[1]._repr_html_() and "not finished" not in state._repr_html_()


def test_errors_are_shown() -> None:
    @sgl.function
    def failing(s: Any) -> None:
        s += "a" + sgl.gen("x")

    state = failing.run(backend=sgl.Mock([ConnectionError("<down>")]))
    state.sync()
    assert "&lt;down&gt;" in state._repr_html_()


def test_big_runs_are_drawn_small() -> None:
    state = program.run("x" * 50_000, 200, backend=sgl.Mock())
    state.text()
    page = state._repr_html_()
    assert f"and {200 - MOST_BRANCHES:,} more" in page and "more characters" in page
    assert len(page) < 300_000
    Reader(page)
    assert html_of(state.record()) == page


def test_a_failure_is_told_once() -> None:
    @sgl.function
    def failing(s: Any) -> None:
        s += "a" + sgl.gen("x")
        for index in range(5):
            s += f"b{index}" + sgl.gen(f"y{index}")

    state = failing.run(backend=sgl.Mock(lambda prompt, call: ValueError("the wire is cut")))
    state.sync()
    reader = Reader(state._repr_html_())
    assert sum("the wire is cut" in text for text in reader.texts) == 2, "above, and where it happened"
    assert sum("not made" in text for text in reader.texts) == 5
