"""What each command of the command line does, given its parsed arguments."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...errors import InvalidRequest
from ..engine import Engine
from ..options import EngineOptions
from ..stream import Stream
from . import show


def generate(given: Namespace) -> None:
    """Continue a text; the continuation streams to standard output, one line about it to standard error."""
    prompt = given.prompt if given.prompt is not None else sys.stdin.read()
    with _engine(given) as engine:
        stream = engine.stream(prompt, **_sampling(given))
        _follow(stream)
        show.usage(stream.result())


def chat(given: Namespace) -> None:
    """A conversation on the terminal. Each turn's prompt begins with the last one's, so its KV is still there."""
    messages = [{"role": "system", "content": given.system}] if given.system else []
    with _engine(given) as engine:
        show.note(f"{engine!r}\nCtrl-C stops an answer, Ctrl-D ends the conversation.")
        while (text := show.ask()) is not None:
            messages.append({"role": "user", "content": text})
            stream = engine.stream(engine.encode_chat(messages), **_sampling(given))
            try:
                _follow(stream)
            except KeyboardInterrupt:
                stream.abort()
            answer = stream.result()
            show.usage(answer)
            messages.append({"role": "assistant", "content": answer.text})


def score(given: Namespace) -> None:
    """The log-probability of each continuation, best first."""
    with _engine(given) as engine:
        scores = engine.score(given.prompt, given.continuation)
        show.scores(list(zip(given.continuation, scores, strict=True)))


def info(given: Namespace) -> None:
    """What the model is and how it runs here."""
    with _engine(given) as engine:
        show.facts(engine)


FACTS = [
    ("Water boils at 100 degrees Celsius at sea level.", "physics"),
    ("The mitochondrion produces most of the cell's energy.", "biology"),
    ("The French Revolution began in 1789.", "history"),
    ("Force equals mass times acceleration.", "physics"),
    ("Julius Caesar crossed the Rubicon in 49 BC.", "history"),
    ("DNA carries the genetic instructions of living things.", "biology"),
]
QUESTIONS = [
    "Light travels faster than sound.",
    "The Roman Empire fell in the West in 476.",
    "Plants make sugar from light by photosynthesis.",
    "Magna Carta was signed in 1215.",
    "An electron carries a negative charge.",
    "Enzymes speed up chemical reactions in cells.",
    "Napoleon was defeated at Waterloo.",
    "Gravity bends the path of light.",
]


LANDMARK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "city": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["tower", "bridge", "museum", "park"]},
        "built": {"type": "integer", "minimum": 1000, "maximum": 2030},
        "open_to_visitors": {"type": "boolean"},
    },
    "required": ["name", "city", "kind", "built", "open_to_visitors"],
    "additionalProperties": False,
}


def demo(given: Namespace) -> None:
    """A real model at work: an answer, a few-shot batch, a tree, an object by a schema, with what was saved in each."""
    with _engine(given) as engine:
        show.note(repr(engine))

        show.title("1. An answer")
        question = "Why is the sky blue? Answer in two sentences."
        show.note(question)
        stream = engine.stream(
            engine.encode_chat([{"role": "user", "content": question}]), temperature=0, max_tokens=96
        )
        _follow(stream)
        show.usage(stream.result())

        show.title("2. Eight questions, one instruction: its prefix is computed once")
        instruction = "Sort each fact into physics, biology or history.\n\n" + "".join(
            f"Fact: {fact}\nField: {field}\n\n" for fact, field in FACTS * 3
        )
        prompts = [f"{instruction}Fact: {question}\nField:" for question in QUESTIONS]
        engine.flush_cache()
        began = time.perf_counter()
        answers = engine.generate(prompts, temperature=0, max_tokens=3, stop="\n")
        seconds = time.perf_counter() - began
        for question, answer in zip(QUESTIONS, answers, strict=True):
            show.row(question, answer.text.strip())
        show.reuse(answers, seconds)

        show.title("3. A tree: three openings, each continued two ways")
        root = "The lighthouse keeper opened the door and saw"
        branches = engine.generate([root], temperature=0.8, seed=7, n=3, max_tokens=16)[0]
        leaves = engine.generate(
            [[*one.prompt_token_ids, *one.token_ids] for one in branches], temperature=0.8, seed=11, n=2, max_tokens=16
        )
        show.tree(
            root, [(branch.text, [leaf.text for leaf in pair]) for branch, pair in zip(branches, leaves, strict=True)]
        )
        show.reuse([leaf for pair in leaves for leaf in pair], None)

        show.title("4. An object that obeys its schema: what the schema dictates costs no step")
        prompt = "The Eiffel Tower, as JSON: "
        show.note(prompt + "... must obey " + json.dumps(LANDMARK["properties"]))
        stream = engine.stream(prompt, temperature=0, max_tokens=96, json_schema=LANDMARK)
        _follow(stream)
        show.forced(stream.result())

        show.title("5. The same eight questions again: everything is there already")
        began = time.perf_counter()
        again = engine.generate(prompts, temperature=0, max_tokens=3, stop="\n")
        show.reuse(again, time.perf_counter() - began)
        show.same([one.text for one in answers] == [one.text for one in again])
        show.engine_line(engine.stats())


def _engine(given: Namespace) -> Engine:
    options = {item.name: getattr(given, item.name) for item in fields(EngineOptions)}
    return Engine(given.model, **options)


def _sampling(given: Namespace) -> dict[str, Any]:
    if given.temperature == 0 and (given.seed is not None or given.top_p != 1.0):
        raise InvalidRequest("--seed and --top-p have no effect at temperature 0: add --temperature 0.8, say")
    return {
        "max_tokens": given.max_tokens,
        "temperature": given.temperature,
        "top_p": given.top_p,
        "seed": given.seed,
        "stop": given.stop,
        "regex": given.regex,
        "json_schema": _read(given.json_schema, "--json-schema"),
        "ebnf": _read(given.ebnf, "--ebnf"),
        "choices": given.choice,
    }


def _read(name: str | None, option: str) -> str | None:
    """The text of a file that an option names."""
    if name is None:
        return None
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{option} {name}: {error}") from None


def _follow(stream: Stream) -> None:
    for delta in stream:
        sys.stdout.write(delta.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
