"""The door of grammars: its names, that it is lazy, and that one call makes every kind."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ramify import grammars
from ramify.errors import GrammarError
from ramify.grammars.compiling import FRONT_ENDS, compile_grammar, front_end

from .bytewise import accepts


def loaded_by(program: str) -> set[str]:
    """The top-level packages that a program loads in a fresh interpreter."""
    code = f"import sys\n{program}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nothing_is_loaded_before_it_is_needed() -> None:
    assert not loaded_by("from ramify import grammars") & {"torch", "numpy", "lark", "pydantic", "msgpack"}
    loaded = loaded_by("from ramify import grammars; grammars.regex('a'); grammars.json_schema({'type': 'null'})")
    assert not loaded & {"torch", "lark", "pydantic", "msgpack", "tokenizers", "transformers"}
    assert not loaded_by("import ramify.grammars.worker") & {"torch", "pydantic"}
    assert "pydantic" in loaded_by("from ramify import grammars; grammars.from_type")  # or the others would say nothing


def test_every_name_is_there() -> None:
    for name in grammars.__all__:
        assert callable(getattr(grammars, name)), name
    assert set(FRONT_ENDS) < set(grammars.__all__)
    assert {"regex", "from_type", "CompileService"} < set(dir(grammars))
    with pytest.raises(AttributeError):
        grammars.no_such_name  # noqa: B018  # the access is the test


def test_one_call_makes_every_kind() -> None:
    assert accepts(compile_grammar("regex", "A+", {"flags": 2}), "aA")
    assert accepts(compile_grammar("choices", ["x"]), "x")
    assert accepts(compile_grammar("json_value"), "[]")
    made = grammars.regex("a")
    assert compile_grammar("grammar", made) is made
    for kind in FRONT_ENDS:
        assert callable(front_end(kind))
    for arguments in (
        ("grammar", "a"),
        ("poem", "a"),
        ("regex", "a", {"color": 1}),
        ("json_value", None, {"start": "x"}),
    ):
        with pytest.raises(GrammarError):
            compile_grammar(*arguments)  # type: ignore[arg-type]


def test_keys_tell_grammars_apart() -> None:
    same = [grammars.regex("a"), grammars.regex("a", flags=0)]
    others = [
        grammars.regex("a", flags=2),
        grammars.regex("b"),
        grammars.choices(["a"]),
        grammars.regex("a", dialect="ecma"),
    ]
    assert len({one.key for one in same}) == 1
    assert len({one.key for one in same + others}) == 5
