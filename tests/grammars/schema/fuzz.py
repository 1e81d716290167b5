"""The fuzzer of schemas: random ones, judged by jsonschema-rs.

From the checkout: PYTHONPATH=. python -m tests.grammars.schema.fuzz 0 20000
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jsonschema_rs
from ramify.errors import GrammarError
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Program
from ramify.grammars.schema import schema_program

from .random_schemas import BYTES, Schemas, spelled, value, walk

WRONG = ("accepts invalid", "refuses valid", "walked to invalid", "called empty", "stuck")


def fuzz(seeds: Iterable[int], compile_: Callable[..., Program] = schema_program) -> tuple[Counter[str], list[str]]:
    """For each seed one schema, 25 random values and 3 random walks: how often what happened, and what was wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in seeds:
        chance = random.Random(seed)
        schema = Schemas(chance).document()
        dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        judged = schema if isinstance(schema, bool) else dialect | schema
        try:
            judge = jsonschema_rs.validator_for(judged, validate_formats=True)
        except ValueError:
            counts["not a schema"] += 1
            continue
        values = [value(chance, 2) for _ in range(25)]
        for kind, shown in _findings(schema, judge, values, chance, compile_):
            counts[kind] += 1
            if kind in WRONG:
                wrong.append(f"{seed}: {kind}: {shown} by {json.dumps(schema)}")
    return counts, wrong


def _findings(
    schema: Any, judge: Any, values: list[Any], chance: random.Random, compile_: Callable[..., Program]
) -> Iterable[tuple[str, str]]:
    try:
        machine = Machine(compile_(schema, order="any"), BYTES)
    except GrammarError as error:
        yield "refused", str(error)
        if "nothing satisfies" in str(error) or "empty" in str(error):
            yield from (("called empty", json.dumps(one)) for one in values if judge.is_valid(one))
        return
    yield "compiled", ""
    try:
        for instance in values:
            matcher = Matcher(machine)
            taken = matcher.accept_bytes(spelled(instance)) and matcher.accepting
            valid = judge.is_valid(instance)
            yield ("valid" if valid else "invalid"), ""
            if valid and not taken and '"uniqueItems": true' in json.dumps(schema):
                yield "refuses different arrays or objects", ""  # allowed: see docs/decisions/008
            elif taken != valid:
                yield ("accepts invalid" if taken else "refuses valid"), json.dumps(instance)
        for _ in range(3):
            text = walk(machine, chance)
            if text is None:
                yield "walk without end", ""
            else:
                yield "walk", ""
                if not judge.is_valid(json.loads(text)):
                    yield "walked to invalid", text.decode()
    except GrammarError as error:
        yield "refused later", str(error)
    except AssertionError as error:
        yield "stuck", str(error)


if __name__ == "__main__":
    all_counts, found = fuzz(range(int(sys.argv[1]), int(sys.argv[2])))
    sys.stdout.write("\n".join([str(dict(all_counts)), *found, ""]))
    sys.exit(bool(found))
