"""Measures one engine, in a process of its environment: `worker.py ENGINE TOKENIZER TASKS RESULTS [FROM]`.

Tasks and results are lines of JSON. What is begun is written down first, so that whoever watches knows what hangs.
Only the standard library, numpy, tokenizers and jsonschema-rs are needed beside the engine.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
from engines.protocol import Engine, NotOffered, engine_class

WALK_TOKENS = 250
WALK_SECONDS = 2.0  # for all walks of one grammar
FOLLOWS = (
    '"',
    "a",
    "s",
    "A",
    "1",
    "-",
    ".",
    " ",
    "  ",
    ", ",
    ": ",
    "}",
    "]",
    "{",
    "[",
    '"a',
    '":',
    '",',
    "]}",
    "\\",
    "\n",
    "é",
)
CLOSERS = ('"', "}", "]", "]}", '"}', "}}", '"]', " }", " ]", "0", "1", "a", "e", '",', ",", " ", ":", '":')


def text_of(kind: str, instance: Any) -> str:
    return json.dumps(instance, ensure_ascii=False) if kind == "json_schema" else str(instance)


class Measured:
    """One engine's run through one grammar."""

    def __init__(self, engine: Engine, task: dict[str, Any]) -> None:
        self.engine = engine
        self.task = task
        self.kind = task["kind"]
        self.masks: list[float] = []
        self.closers = [engine.tokenizer.token_to_id(one.replace(" ", "Ġ")) for one in CLOSERS]

    def run(self) -> dict[str, Any]:
        engine, task = self.engine, self.task
        result: dict[str, Any] = {"id": task["id"], "kind": self.kind, "compiled": False}
        begin = time.perf_counter()
        try:
            compiled = engine.compile(self.kind, task["grammar"])
            made = time.perf_counter()
            state = engine.start(compiled)
            engine.mask(state)
        except NotOffered:
            return result | {"offered": False}
        except Exception as error:
            return result | {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        result |= {
            "compiled": True,
            "compile_ms": 1000 * (made - begin),
            "first_mask_ms": 1000 * (time.perf_counter() - begin),
            "valid": [self.accepted(compiled, one, True) for one in task["valid"]],
            "invalid": [self.accepted(compiled, one, False) for one in task["invalid"]],
        }
        if self.kind == "json_schema":
            result["walks"] = self.walks(compiled)
            if task.get("jump"):
                result["jumped"] = [self.jumped(compiled, one) for one in task["valid"]]
        return result | {"masks_us": [round(1e6 * one, 3) for one in self.masks]}

    def accepted(self, compiled: Any, instance: Any, timed: bool) -> bool:
        """Token by token, as a model would write it, with a mask before each token."""
        engine = self.engine
        try:
            state = engine.start(compiled)
            for token in engine.encode(text_of(self.kind, instance)):
                begin = time.perf_counter()
                engine.mask(state)
                end = time.perf_counter()
                if timed:
                    self.masks.append(end - begin)
                if not engine.accept(state, token):
                    return False
            return engine.complete(state)
        except Exception:
            return False

    def walks(self, compiled: Any) -> dict[str, int]:
        """Random tokens out of the masks, with a lean towards what ends things; what ended is judged."""
        found = {"ended": 0, "valid": 0, "stuck": 0, "cut": 0, "failed": 0}
        try:
            validator = jsonschema_rs.validator_for(self.task["grammar"])
        except Exception:
            return found
        begin = time.perf_counter()
        for seed in range(self.task.get("walk_count", 0)):
            if time.perf_counter() - begin > WALK_SECONDS:
                break
            try:
                outcome = self.walk(compiled, random.Random(f"{self.task['id']} {seed}"))
            except Exception:
                found["failed"] += 1
                continue
            if isinstance(outcome, str):
                found["ended"] += 1
                with suppress(ValueError):  # not even JSON
                    found["valid"] += validator.is_valid(json.loads(outcome))
            else:
                found["stuck" if outcome else "cut"] += 1
        return found

    def walk(self, compiled: Any, chance: random.Random) -> str | bool:
        """The text when it ended; True when nothing was allowed, False when it was cut."""
        engine = self.engine
        state, tokens = engine.start(compiled), list[int]()
        for count in range(WALK_TOKENS):
            bits = engine.bits(state)
            if bits[engine.end] and (count > 40 or chance.random() < 0.5):
                return str(engine.tokenizer.decode(tokens, skip_special_tokens=False))
            bits = bits.copy()
            bits[engine.special] = False
            closers = [token for token in self.closers if token is not None and bits[token]]
            if closers and chance.random() < (0.3 if count < 60 else 0.9):
                token = chance.choice(closers)
            else:
                allowed = np.flatnonzero(bits)
                if not len(allowed):
                    return True if not engine.complete(state) else str(engine.tokenizer.decode(tokens))
                token = int(allowed[chance.randrange(len(allowed))])
            if not engine.accept(state, token):
                return True
            tokens.append(token)
        return False

    def jumped(self, compiled: Any, instance: Any) -> list[int]:
        """Tokens of the instance in all, those that need no step, and of these those that the tokenizer puts otherwise.

        An engine that plans tokens is asked for them. Else forced text is cut into tokens together with what is before
        it; what could still change is left to the model.
        """
        engine = self.engine
        text = text_of(self.kind, instance)
        own = engine.encode(text)
        state, at, jumped, otherwise = engine.start(compiled), 0, 0, 0
        while at < len(own):
            planned = self.planned(state, own[:at])
            text, rest = self.decoded(planned), self.decoded(own)
            if not (rest.startswith(text) or text.startswith(rest)):
                return [0, 0, 0]  # another text than this one, which is refused
            planned = planned[: len(own)]
            wrong = sum(left != right for left, right in zip(planned, own, strict=False))
            jumped += max(0, len(planned) - at)
            otherwise += wrong
            if wrong or not all(engine.accept(state, token) for token in own[at : len(planned)]):
                return [len(own), jumped, otherwise]
            at = max(at, len(planned))
            if at < len(own):
                if not engine.accept(state, own[at]):
                    return [0, 0, 0]
                at += 1
        return [len(own), jumped, otherwise]

    def planned(self, state: Any, before: list[int]) -> list[int]:
        """The tokens so far, and those behind them that need no step: by the engine's own rules, if it has any."""
        planned = self.engine.jump(state, before)
        if planned is not None:
            return planned
        forced = self.engine.forced(state) or []
        if not isinstance(forced, str):
            return before + forced
        near = before[-16:]
        together = self.settled(self.decoded(near), forced)
        return before + together[len(near) :] if together[: len(near)] == near else before

    def decoded(self, tokens: list[int]) -> str:
        return str(self.engine.tokenizer.decode(tokens, skip_special_tokens=False))

    def settled(self, before: str, forced: str) -> list[int]:
        """The tokens of the text that stay the same whatever follows, as far as a few continuations can tell."""
        tokens = self.engine.encode(before + forced)
        for follows in FOLLOWS:
            others = self.engine.encode(before + forced + follows)
            same = (left == right for left, right in zip(tokens, others, strict=False))
            tokens = tokens[: next((index for index, equal in enumerate(same) if not equal), len(others))]
        return tokens


def main() -> None:
    name, tokenizer, tasks, results = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    skip = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    begin = time.perf_counter()
    engine = engine_class(name)(tokenizer)
    gc.collect()
    gc.freeze()  # as a server does: what is there for good is not looked at again
    with results.open("a") as out:
        print(json.dumps({"ready_ms": 1000 * (time.perf_counter() - begin)}), file=out, flush=True)
        for number, line in enumerate(tasks.read_text().splitlines()):
            if number >= skip:
                print(json.dumps({"begun": number}), file=out, flush=True)
                print(json.dumps(Measured(engine, json.loads(line)).run()), file=out, flush=True)


if __name__ == "__main__":
    main()
