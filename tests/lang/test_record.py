"""Runs as records: what they hold, that they can be saved and read back, and what is no record."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ramify as sgl
from ramify.errors import InvalidRequest
from ramify.lang.record import FORMAT, VERSION, RunRecord, load_run, plain


@sgl.function
def program(s: Any, q: str) -> None:
    s += sgl.user(f"Q: {q}") + sgl.assistant(sgl.gen("a", max_tokens=5, stop="."))
    forks = s.fork(2)
    for fork in forks:
        fork += "more" + sgl.gen("b", n=2, max_tokens=3)
    forks.join()
    s["kept"] = {"list": [1, None, float("nan")]}
    s += sgl.select("c", choices=["x", "y"])


@pytest.fixture
def run() -> sgl.ProgramState:
    state = program.run("what?", backend=sgl.Mock())
    state.text()
    return state


def test_what_a_record_holds(run: sgl.ProgramState) -> None:
    found = run.record()
    assert (found.program, found.backend, found.error) == ("program", "mock", None)
    root, *forks = found.streams
    assert [node.kind for node in root.nodes] == [
        "role", "text", "end role", "role", "gen", "end role", "set", "set", "select",
    ]  # fmt: skip
    gen = root.nodes[4]
    assert (gen.name, gen.value, gen.text) == ("a", run["a"], run["a"])
    assert gen.tokens.prompt > 0 and gen.tokens.completion > 0 and gen.settings == {"max_new_tokens": 5, "stop": "."}
    assert gen.started is not None and gen.ended is not None and 0 <= gen.started <= gen.ended
    assert gen.file == __file__ and gen.line and root.nodes[1].tokens.constant > 0
    assert root.nodes[-2].name == "kept" and root.nodes[-2].value == {"list": [1, None, "nan"]}
    assert [(fork.parent, fork.fork_at, fork.joined_as) for fork in forks] == [(0, 6, "gather_variable")] * 2
    assert isinstance(forks[0].nodes[1].value, list) and len(forks[0].nodes[1].value) == 2


def test_arguments_are_kept_small_and_by_name(tmp_path: Path) -> None:
    class Failing:
        def __repr__(self) -> str:
            raise ValueError("no picture of me")

    @sgl.function
    def called(s: Any, one: Any, *others: Any, key: Any = None, **more: Any) -> None:
        s += "x"

    endless: list[Any] = []
    endless.append(endless)
    backend = sgl.Mock()
    state = called.run(
        "a" * 5000, 2, endless, key=Failing(), path=Path("a"), big=range(9), bytes=10**400, backend=backend
    )
    state.save(tmp_path / "run.json")
    found = load_run(tmp_path / "run.json").arguments
    assert list(found) == ["one", "others", "key", "path", "big", "bytes"]
    assert len(found["one"]) < 2100 and found["one"].endswith("… 3,000 more characters")
    assert found["others"] == [2, [[["<list of 1>"]]]]
    assert (found["key"], found["path"], found["big"]) == (f"<{Failing.__qualname__}>", "a", "<range>")
    rows = [state.record().arguments for state in called.bind(key=3).run_batch([{"one": 1}, (2, 3)], backend=backend)]
    assert rows == [{"key": 3, "one": 1}, {"one": 2, "others": [3], "key": 3}]
    assert called.compile().run(list(range(99)), backend=backend).record().arguments["one"][-1] == "… 49 more"
    assert asyncio.run(called.run_async(one=5, backend=backend)).record().arguments == {"one": 5}
    assert called.run(one=5, stream=True, backend=backend).record().arguments == {"one": 5}


def test_saved_and_read_back(run: sgl.ProgramState, tmp_path: Path) -> None:
    run.save(tmp_path / "run.json")
    assert load_run(tmp_path / "run.json") == run.record()
    saved = json.loads((tmp_path / "run.json").read_text())
    assert (saved["format"], saved["version"]) == (FORMAT, VERSION) == ("ramify.run", 1)


def test_a_run_that_failed_is_a_record_too(tmp_path: Path) -> None:
    @sgl.function
    def failing(s: Any) -> None:
        s += "a" + sgl.gen("x") + sgl.gen("y")

    state = failing.run(backend=sgl.Mock([ConnectionError("down")]))
    state.save(tmp_path / "run.json")
    found = load_run(tmp_path / "run.json")
    assert "down" in (found.error or "") and "down" in (found.streams[0].nodes[1].error or "")
    assert found.streams[0].nodes[2].error and found.streams[0].nodes[2].value is None


def test_unknown_fields_are_ignored(run: sgl.ProgramState) -> None:
    given = run.record().as_dict() | {"later": 1}
    given["streams"][0]["later"] = 2
    given["streams"][0]["nodes"][0]["tokens"]["later"] = 3
    assert RunRecord.from_dict(given) == run.record()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": "other"}, "no record"),
        ({"version": 2}, "versions 1 to 1"),
        ({"version": "1"}, "version"),
        ({"program": 3}, r"run\.program: expected str"),
        ({"streams": {}}, r"run\.streams: expected a list"),
        ({"streams": [3]}, r"run\.streams\[0\]: expected an object"),
        ({"streams": [{"number": "0"}]}, r"run\.streams\[0\]\.number: expected int"),
        ({"streams": [{}]}, r"run\.streams\[0\]\.number is missing"),
        ({"streams": [{"number": 1, "parent": 0}]}, "before its parent"),
        ({"streams": [{"number": 0, "nodes": [{"kind": 1}]}]}, r"nodes\[0\]\.kind"),
        ({"streams": [{"number": 0, "nodes": [{"kind": "gen", "tokens": {"prompt": "x"}}]}]}, r"tokens\.prompt"),
    ],
)
def test_what_is_no_record(run: sgl.ProgramState, change: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidRequest, match=where):
        RunRecord.from_dict(run.record().as_dict() | change)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3"])
def test_what_is_no_file_of_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InvalidRequest, match="no record"):
        load_run(tmp_path / "run.json")


def test_values_as_json_can_hold_them() -> None:
    @dataclass
    class Point:
        x: int
        label: str

    value = plain({"a": (1, 2.5, {3}), "b": Point(1, "p"), 4: b"bytes", "c": float("inf"), "d": True})
    assert value == {"a": [1, 2.5, [3]], "b": {"x": 1, "label": "p"}, "4": "b'bytes'", "c": "inf", "d": True}
    json.dumps(value, allow_nan=False)
