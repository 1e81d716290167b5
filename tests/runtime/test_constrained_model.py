"""The embedded model under a hundred constraints: every finished answer obeys, and forced text is free.

RAMIFY_SOAK=10000 in the environment says how many answers to make instead of two hundred.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest
from ramify import Engine
from ramify.runtime.results import Generation
from ramify.runtime.sampling.params import SamplingParams

pytestmark = pytest.mark.slow

WORDS = ["red", "green", "blue", "fox", "dog", "bird", "Paris", "London", "teacher", "nurse", "order", "orderId"]
WORDS += ["naïve", "日本語", "🙂"]
PATTERNS = [r"\d{4}-\d{2}-\d{2}", r"[A-Z][a-z]{1,8}( [A-Z][a-z]{1,8})?", r"(\+\d{1,3} )?\d{3}-\d{4}", r"#[0-9a-f]{6}"]
REGEXES = [*PATTERNS, r"(yes|no|maybe)( (yes|no|maybe)){0,3}", r"\w{1,10}@\w{1,10}\.(com|org)", r"[^\x00-\x1f]{5,40}\."]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(mode="fp32", cache_tokens=32768, progress=False) as made:
        yield made
        made.check()


def random_schema(chooser: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema of the kind that people write, every part of it bounded."""
    kinds = ["text", "pattern", "enum", "integer", "number", "boolean"] + ["object", "array"] * (depth > 0)
    match chooser.choice(kinds):
        case "text":
            return {"type": "string", "maxLength": chooser.randint(1, 24)}
        case "pattern":
            return {"type": "string", "pattern": f"^{chooser.choice(PATTERNS)}$"}
        case "enum":
            return {"enum": [*chooser.sample(WORDS, chooser.randint(1, 5)), *chooser.sample([1, None, True, 2.5], 1)]}
        case "integer":
            low = chooser.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + chooser.randint(0, 5000)}
        case "number":
            return {"type": ["number", "null"], "minimum": 0, "maximum": 1000}
        case "boolean":
            return {"type": "boolean"}
        case "array":
            items = random_schema(chooser, depth - 1)
            return {"type": "array", "items": items, "minItems": chooser.randint(0, 2), "maxItems": 3}
    return random_object(chooser, depth)


def random_object(chooser: random.Random, depth: int = 2) -> dict[str, Any]:
    names = chooser.sample(WORDS, chooser.randint(1, 6))
    return {
        "type": "object",
        "properties": {name: random_schema(chooser, depth - 1) for name in names},
        "required": chooser.sample(names, chooser.randint(0, len(names))),
        "additionalProperties": False,
    }


def constraints(count: int) -> list[tuple[dict[str, Any], Callable[[str], bool]]]:
    """Schemas, and regular expressions among them; each with a judge of its own."""
    chooser = random.Random(count)
    made: list[tuple[dict[str, Any], Callable[[str], bool]]] = []
    for number in range(count):
        if number % 5 == 4:
            pattern = REGEXES[number // 5 % len(REGEXES)]
            made.append(({"regex": pattern}, lambda text, pattern=pattern: re.fullmatch(pattern, text) is not None))
            continue
        schema = random_object(chooser)
        validator = jsonschema_rs.validator_for(schema)
        judge = lambda text, validator=validator: validator.is_valid(json.loads(text))  # noqa: E731 - one of a kind
        made.append(({"json_schema": schema}, judge))
    return made


def test_every_answer_at_temperature_one_obeys(engine: Engine) -> None:
    count = int(os.environ.get("RAMIFY_SOAK", "200"))
    made = constraints(100)
    finished = 0
    for start in range(0, count, 500):
        numbers = range(start, min(count, start + 500))
        answers: list[Generation] = engine.generate(
            [f"Record {number}: something about {WORDS[number % len(WORDS)]}.\nAs data: " for number in numbers],
            [
                SamplingParams(temperature=1.0, seed=number, max_tokens=200, **made[number % 100][0])
                for number in numbers
            ],
        )
        for number, answer in zip(numbers, answers, strict=True):
            assert answer.finish_reason in ("stop", "length")
            if answer.finish_reason == "stop":
                finished += 1
                assert made[number % 100][1](answer.text), (made[number % 100][0], answer.text)
    assert finished >= 0.9 * count


# -- what jumping saves, and that it changes nothing ------------------------------------------------------------------

FIELDS: dict[str, Any] = {
    "name": {"type": "string", "maxLength": 24},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "city": {"type": "string", "maxLength": 24},
    "job": {"type": "string", "maxLength": 24},
    "married": {"type": "boolean"},
    "children": {"type": "integer", "minimum": 0, "maximum": 12},
    "pet": {"enum": ["cat", "dog", "bird", "none"]},
    "color": {"enum": ["red", "green", "blue", "black", "white"]},
}
PERSON = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}
NAMES = ["Alice Smith", "Bob Jones", "Carla Diaz", "David Lee", "Emma Brown", "Frank Moore", "Grace Hall"]


def person(chooser: random.Random) -> dict[str, Any]:
    return {
        "name": chooser.choice(NAMES),
        "age": chooser.randint(18, 90),
        "city": chooser.choice(["Paris", "London", "Boston", "Madrid", "Tokyo"]),
        "job": chooser.choice(["teacher", "nurse", "engineer", "painter", "chef"]),
        "married": chooser.random() < 0.5,
        "children": chooser.randint(0, 5),
        "pet": chooser.choice(FIELDS["pet"]["enum"]),
        "color": chooser.choice(FIELDS["color"]["enum"]),
    }


def few_shot(people: list[dict[str, Any]]) -> list[str]:
    def told(one: dict[str, Any]) -> str:
        return "Record: " + ", ".join(f"{key} {json.dumps(value)}" for key, value in one.items()).replace('"', "")

    chooser = random.Random(7)
    shots = "".join(f"{told(one)}\nJSON: {json.dumps(one)}\n\n" for one in (person(chooser) for _ in range(3)))
    return [f"{shots}{told(one)}\nJSON:" for one in people]


def test_jumping_takes_fewer_steps_and_leaves_the_values_as_they_are(engine: Engine) -> None:
    chooser = random.Random(1)
    prompts = few_shot([person(chooser) for _ in range(16)])
    jumped, plain = (
        engine.generate(prompts, temperature=0, max_tokens=160, json_schema=PERSON, jump_forward=jump)
        for jump in (True, False)
    )
    steps = tokens = 0
    for one in jumped:
        assert one.finish_reason == "stop"
        assert engine.tokenizer.encode_continuation(one.text) == list(one.token_ids)
        tokens += one.usage.completion_tokens
        steps += one.usage.completion_tokens - one.usage.forced_tokens
    assert steps <= 0.70 * tokens
    same = sum(json.loads(one.text) == json.loads(other.text) for one, other in zip(jumped, plain, strict=True))
    assert same >= 0.98 * len(prompts)


def test_where_the_model_is_not_used_to_the_form_its_tokens_are_the_tokenizers_all_the_same(engine: Engine) -> None:
    """Without examples a masked run writes keys in splinters, for the model would rather say something else."""
    prompts = [f"{word} is a word. Describe it as JSON:\n" for word in WORDS[:8]]
    for answer in engine.generate(prompts, temperature=0, max_tokens=160, json_schema=PERSON):
        assert engine.tokenizer.encode_continuation(answer.text) == list(answer.token_ids), answer.text
    plain = engine.generate(prompts, temperature=0, max_tokens=160, json_schema=PERSON, jump_forward=False)
    assert any(engine.tokenizer.encode_continuation(one.text) != list(one.token_ids) for one in plain)
