"""Every example runs as it stands, on the embedded model, and shows what its first sentence promises."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import ramify

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SHOWS = {  # a pattern that the printed text must hold
    "async_programs": r"(\w+ -> \w+ -> \w+\n){3}",
    "batch_file": r'(\{"animal": "\w+", "legs": \d\}\n){6}\{"animal": null, "error": "animal=None is no name"\}',
    "chat": r"user: Name a fruit that is red\.\nassistant: \S",
    "choose": r"(\w+ \[('(arithmetic|literature|geography)'(, )?){3}\]\n){3}",
    "few_shot": r"((positive|negative) +\S.*\n){4}",
    "generative_agents": r"(( 9|12|15):00 (Ada|Ben|Cleo) +in the (bakery|harbour|market) .*\n){9}",
    "hello": r"( \S+ +(Africa|America|Asia|Europe) City\(name='.*', country='.*', by_the_sea=(True|False)\).*\n){3}",
    "llm_judge": r"(\w+ +[1-5]  .*\n){4}average: [1-5]\.",
    "multi_document": r"(Document \d: .*\nNote:.*\n){3}Question: .*\nAnswer:",
    "rag": r"When does the library open on Saturdays\?\n +\S",
    "react_agent": r'Call: \{"name": "population", "arguments": \{"country": "\w+"\}\}\nResult: [\s\S]*answer: -?\d+',
    "self_consistency": r"( +-?\d+  #+\n)+",
    "skeleton_of_thought": r"1\. .*\n2\. .*\n3\. .*\n4\. ",
    "streaming": r"Once upon a time, a small dragon found a\b.*\nIn the end,.*\n\[the end alone\] \S",
    "tree_of_thought": r"(depth \d: \[(-?[\d.]+(, )?){3}\] .*\n){3}answer: \$?\d",
    "typed_json": r"(name='.*' house='(Gryff|Huffle|Raven|Slyth)\w+' age=\d+ alive=(True|False) friends=.*\n.*\n){2}",
}


@pytest.fixture(scope="module", autouse=True)
def own_backend() -> Iterator[None]:
    """The examples share one embedded model, closed when they are done."""
    with ramify.Engine(progress=False) as engine:
        ramify.set_default_backend(engine)
        yield
        ramify.set_default_backend(None)


@pytest.mark.parametrize("name", sorted(SHOWS))
def test_it_runs_and_shows_its_result_and_what_reuse_saved(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert re.search(SHOWS[name], shown), shown
    assert re.search(r"\d+ prompt tokens, \d+ of them reused", shown), shown


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHOWS)


@pytest.mark.parametrize("name", sorted(SHOWS))
def test_examples_are_short_and_say_what_they_are(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 60
