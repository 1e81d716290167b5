"""Time to the first token of a long prompt, cold and with its prefix cached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter

import ramify

from .engines import engine, prompts
from .findings import Section, time_of
from .scene import Scene

TITLE = "Time to the first token over a shared prefix"


def measure(scene: Scene, section: Section) -> None:
    length, own = scene.pick(8192, 64), scene.pick(32, 4)
    rounds = 1 if scene.rehearsal else 3 if scene.quick else 7
    made = engine(scene)
    [prefix] = prompts(scene, 1, length)
    tails = prompts(scene, 2 * rounds + 3, own)
    for tail in tails[:2]:  # compiled
        first_token(made, [*prefix, *tail])
    cold, warm = [], []
    for i in range(rounds):
        made.flush_cache()
        cold.append(first_token(made, [*prefix, *tails[2 * i + 2]]))
        warm.append(first_token(made, [*prefix, *tails[2 * i + 3]]))
    table = section.table(f"A prefix of {length} tokens, then {own} of the request's own", "prefix", "median", "best")
    for name, seconds in (("cold", cold), ("cached", warm)):
        table.add(name, time_of(statistics.median(seconds)), time_of(min(seconds)))
    share = statistics.median(warm) / statistics.median(cold)
    section.at_most("shared prefix of 8k: time to first token, warm by cold", share, 0.10, "")
    section.notes.append(f"Cold, this is {length / statistics.median(cold):,.0f} prompt tokens a second, alone.")


def first_token(engine: ramify.Engine, prompt: Sequence[int]) -> float:
    """Seconds by the caller's clock, from the call to the end of a one-token answer."""
    started = perf_counter()
    engine.stream(list(prompt), max_tokens=1, temperature=0, ignore_eos=True).result()
    return perf_counter() - started
