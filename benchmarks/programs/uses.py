"""What the runtime's uses of the graph are worth, one by one, each on a program that needs it; everything is counted.

python -m ramify.benchmarks.programs.uses
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ramify as sgl
from ramify import Engine, ExecutionOptions

ALL = ExecutionOptions()
SENTENCE = "The ship left the harbour at dawn, and nobody on the quay knew where it was bound. "


@dataclass(frozen=True)
class Use:
    """One use of the graph: what was counted, with it and without it."""

    name: str
    counted: str
    on: int
    off: int

    @property
    def line(self) -> str:
        gain = f"{self.off / self.on:.2f}x" if self.on else "all"
        return f"| {self.name} | {self.counted} | {self.on:,} | {self.off:,} | {gain} |"


@contextmanager
def engine(**options: object) -> Iterator[Engine]:
    with Engine(progress=False, **options) as made:
        yield made


# -- a stream goes on by its handle ------------------------------------------------------------------------------------


@sgl.function
def talk(s, turns):
    for number in range(turns):
        s += f"\nPart {number}: {SENTENCE}" + sgl.gen(f"part_{number}", max_tokens=8, ignore_eos=True)


def handles(options: ExecutionOptions) -> int:
    """Characters that were handed to the tokenizer over a conversation of 24 turns."""
    with engine() as made:
        seen = 0
        tokenizer = made.tokenizer
        for name in ("encode", "encode_continuation"):
            method = getattr(tokenizer, name)

            def counting(text: str, *args: object, method: Callable[..., object] = method, **named: object) -> object:
                nonlocal seen
                seen += len(text)
                return method(text, *args, **named)

            setattr(tokenizer, name, counting)
        talk.run(24, backend=made, temperature=0, options=options).sync()
        return seen


# -- constants behind a gen are prefilled while the program looks at its value -----------------------------------------


@sgl.function
def think(s, rounds):
    s += "A question:" + sgl.gen("value_0", max_tokens=8, ignore_eos=True)
    for number in range(rounds):
        s += f"\nWhat is known: {SENTENCE * 6}\nAnd so:"
        time.sleep(0.05 if s[f"value_{number}"] else 0)  # the program thinks about what it read
        s += sgl.gen(f"value_{number + 1}", max_tokens=8, ignore_eos=True)


def lookahead(options: ExecutionOptions) -> int:
    """Prompt tokens that gens had to wait for, because they were not there when the gen was asked for."""
    with engine() as made:
        state = think.run(6, backend=made, temperature=0, options=options)
        state.sync()
        gens = state.stats().gens[1:]
        return sum(gen.prompt_tokens - gen.cached_tokens for gen in gens)


# -- pages of a live program are evicted last --------------------------------------------------------------------------


@sgl.function
def long_lived(s, number, rounds):
    s += f"Diary {number}. " + SENTENCE * 12
    for day in range(rounds):
        s += f"\nDay {day}:" + sgl.gen(f"day_{day}", max_tokens=4, ignore_eos=True)
        s.sync()
        yield_to_others(number, day)


@sgl.function
def passer_by(s, text):
    s += text + sgl.gen("answer", max_tokens=2, ignore_eos=True)


_visitors: list[Callable[[int, int], None]] = []


def yield_to_others(number: int, day: int) -> None:
    for visit in _visitors:
        visit(number, day)


def next_use(options: ExecutionOptions) -> int:
    """Tokens computed again because they had been evicted, while strangers pass by a small cache."""
    with engine(cache_tokens=1024) as made:

        def visit(number: int, day: int) -> None:
            for guest in range(8):
                text = f"Guest {number} {day} {guest}. " + SENTENCE * 10
                passer_by.run(text, backend=made, temperature=0, options=options).sync()

        _visitors.append(visit)
        try:
            before = made.stats().recomputed_tokens
            long_lived.run(1, 6, backend=made, temperature=0, options=options).sync()
            return made.stats().recomputed_tokens - before
        finally:
            _visitors.clear()


# -- the critical path goes first --------------------------------------------------------------------------------------


@sgl.function
def uneven(s):
    s += SENTENCE
    branches = s.fork(6)
    for branch in branches[:5]:
        branch += "In short:" + sgl.gen("short", max_tokens=24, ignore_eos=True)
    chain = branches[5]
    for step in range(4):
        chain += f"\nStep {step}:" + sgl.gen(f"step_{step}", max_tokens=24, ignore_eos=True)
    branches.join()


def priorities(options: ExecutionOptions) -> int:
    """Engine steps until a program with one long chain among short branches is done; two requests run at a time."""
    with engine(max_running=2, policy="priority") as made:
        before = made.stats().steps
        uneven.compile().run(backend=made, temperature=0, options=options).sync()
        return made.stats().steps - before


# -- what nobody reads is cancelled ------------------------------------------------------------------------------------


@sgl.function
def first_good(s, branches):
    s += SENTENCE
    forks = s.fork(branches)
    for number, fork in enumerate(forks):
        fork += f"\nIdea {number}:" + sgl.gen("idea", max_tokens=16 if number == 0 else 200, ignore_eos=True)
    s["best"] = forks[0]["idea"]  # good enough: the others go out of reach here


def cancelled(options: ExecutionOptions) -> int:
    """Tokens run through the model when only the first of 8 branches is read."""
    with engine() as made:
        before = made.stats().computed_tokens
        first_good.run(8, backend=made, temperature=0, options=options).sync()
        while made.stats().scheduler.running or made.stats().scheduler.waiting:
            time.sleep(0.01)
        return made.stats().computed_tokens - before


USES: tuple[tuple[str, str, Callable[[ExecutionOptions], int], ExecutionOptions], ...] = (
    ("a stream goes on by its handle", "characters encoded, 24 turns", handles, replace(ALL, reuse_handles=False)),
    ("constants behind a gen", "prompt tokens that a gen waited for", lookahead, replace(ALL, lookahead=False)),
    ("eviction by next use", "tokens computed again", next_use, replace(ALL, next_use=False)),
    ("critical path first", "engine steps", priorities, replace(ALL, priorities=False)),
    ("unread branches are cancelled", "tokens computed", cancelled, replace(ALL, cancel_unread=False)),
)


def measure() -> list[Use]:
    """Every use, on and off."""
    return [Use(name, counted, count(ALL), count(off)) for name, counted, count, off in USES]


def table(uses: list[Use]) -> str:
    lines = ["| use of the graph | counted | with | without | gain |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(use.line for use in uses)])


if __name__ == "__main__":
    print(table(measure()))
