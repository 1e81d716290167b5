"""How the command line looks: plain lines, colour only on a terminal, bars for what the cache saved."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from ..engine import Engine
from ..results import Generation, Score
from ..stats import EngineStats

BAR = 40  # characters


def _paint(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def title(text: str) -> None:
    _say("\n" + _paint(text, "1"))


def note(text: str) -> None:
    _say(_paint(text, "2"))


def ask() -> str | None:
    """A line from the user; None at the end of input. Empty lines are asked again."""
    while True:
        try:
            text = input(_paint("> ", "1"))
        except EOFError:
            _say()
            return None
        except KeyboardInterrupt:
            _say()
            continue
        if text.strip():
            return text


def usage(answer: Generation) -> None:
    """One line about an answer, on standard error, so that standard output is the text alone."""
    used, times = answer.usage, answer.timings
    rate = used.completion_tokens / times.decode_s if times.decode_s > 0 else 0.0
    first = "" if times.time_to_first_token_s is None else f", first after {times.time_to_first_token_s * 1000:.0f} ms"
    line = (
        f"[{used.prompt_tokens} prompt tokens ({used.cached_tokens} cached), "
        f"{used.completion_tokens} generated{first}, {rate:.0f} tokens/s, {answer.finish_reason}]"
    )
    sys.stderr.write(_paint(line, "2") + "\n")


def row(left: str, right: str) -> None:
    _say(f"  {left:<58} {_paint(right, '36')}")


def reuse(answers: Sequence[Generation], seconds: float | None) -> None:
    """A bar: how many of the prompts' tokens were already there, and how many had to be computed."""
    total = sum(answer.usage.prompt_tokens for answer in answers)
    cached = sum(answer.usage.cached_tokens for answer in answers)
    filled = round(BAR * cached / max(1, total))
    picture = _paint("█" * filled, "32") + _paint("░" * (BAR - filled), "33")
    time = "" if seconds is None else f" in {seconds:.2f} s"
    _say(f"  {picture} {cached} of {total} prompt tokens from the cache ({cached / max(1, total):.0%}){time}")


def forced(answer: Generation) -> None:
    """A bar: how many of an answer's tokens the model chose, and how many there was no choice about."""
    total, given = answer.usage.completion_tokens, answer.usage.forced_tokens
    filled = round(BAR * given / max(1, total))
    picture = _paint("█" * filled, "32") + _paint("░" * (BAR - filled), "33")
    _say(f"  {picture} {given} of {total} tokens were dictated and cost no step ({given / max(1, total):.0%})")


def tree(root: str, branches: Sequence[tuple[str, Sequence[str]]]) -> None:
    """The texts of a tree, one line a node."""
    width = max(40, shutil.get_terminal_size((100, 24)).columns - 10)
    _say("  " + root)
    for number, (text, leaves) in enumerate(branches):
        last = number == len(branches) - 1
        _say(f"  {'└─' if last else '├─'} …{_one_line(text, width)}")
        for index, leaf in enumerate(leaves):
            _say(f"  {'   ' if last else '│  '} {'└─' if index == len(leaves) - 1 else '├─'} …{_one_line(leaf, width)}")


def scores(ranked: Sequence[tuple[str, Score]]) -> None:
    """Continuations, the most probable first."""
    _say(f"{'log p':>10} {'per token':>10} {'tokens':>7}  continuation")
    for text, one in sorted(ranked, key=lambda pair: -pair[1].total):
        _say(f"{one.total:>10.3f} {one.mean:>10.3f} {len(one.token_ids):>7}  {text!r}")


def facts(engine: Engine) -> None:
    """A model's shape and how it runs here."""
    config, options = engine.config, engine.options
    lines = {
        "model": repr(engine),
        "architecture": f"{config.architecture}: {config.layers} layers, width {config.hidden_size}, "
        f"{config.heads} query and {config.kv_heads} key/value heads of {config.head_dim}",
        "vocabulary": f"{config.vocab_size} tokens",
        "context": f"{config.context_length} tokens",
        "KV memory": f"{engine.stats().scheduler.total_pages} pages of {options.page_size} tokens",
    }
    for name, value in lines.items():
        _say(f"{name:<14}{value}")


def same(equal: bool) -> None:
    """Whether the warm answers were the cold ones."""
    _say("  " + (_paint("the same answers, word for word", "32") if equal else _paint("the answers differ", "31")))


def engine_line(stats: EngineStats) -> None:
    """What the engine did in all."""
    done = stats.scheduler
    note(
        f"\n{done.steps} steps, {done.computed_tokens} tokens computed, {done.cached_tokens} taken from the cache; "
        f"{stats.overhead:.0%} of the steps' time was spent outside the model"
    )


def _one_line(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
