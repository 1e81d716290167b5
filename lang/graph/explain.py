"""Explains a program before anything runs: what it asks of the model, what is shared, what runs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..nodes import Gen, Select
from ..sampling import Sampling
from .graph import Fork, Graph, Position, is_model_work
from .mermaid import mermaid
from .picture import branch_words, branches, short, words
from .references import Argument, Reference, Value, fill
from .schedule import Schedule, schedule
from .svg import svg

MOST_DEPTH = 40  # of forks in forks that are drawn


@dataclass(frozen=True, slots=True)
class Explanation:
    """A graph and what it will cost, about. `str()` is a text tree; `.mermaid()` and `.svg()` are drawings.

    Tokens are counted by the backend's tokenizer where it has one, else taken for four characters each; a gen is taken
    to write as much as it may.
    """

    graph: Graph
    schedule: Schedule
    counted: bool  # by a tokenizer

    @property
    def gens(self) -> int:
        """Gens and selects."""
        return sum(is_model_work(item) for _, item in self.graph.items())

    @property
    def prompt_tokens(self) -> int:
        """Tokens that calls without any sharing would compute before they generate: each call's whole prompt."""
        return sum(self.schedule.prompt[position] for position, item in self.graph.items() if is_model_work(item))

    @property
    def prefill_tokens(self) -> int:
        """Tokens of constants when each is computed once: what is generated is in the cache already."""
        estimates = self.schedule.estimates
        return sum(estimates[p].tokens for p, item in self.graph.items() if not isinstance(item, Gen))

    @property
    def generated_tokens(self) -> int:
        """Tokens that gens may write at most."""
        estimates = self.schedule.estimates
        return sum(estimates[position].tokens for position, item in self.graph.items() if isinstance(item, Gen))

    def summary(self) -> list[str]:
        """The numbers, as lines."""
        plan, graph = self.schedule, self.graph
        about = "" if self.counted else "about "
        lines = [
            f"{_many(self.gens, 'call')} of the model, at most {max(plan.width, min(self.gens, 1))} at once; "
            f"{about}{_many(self.prefill_tokens, 'token')} to prefill, at most {self.generated_tokens:,} to generate"
        ]
        if self.prompt_tokens > self.prefill_tokens:
            share = 1 - self.prefill_tokens / self.prompt_tokens
            lines.append(f"shared: call by call it would prefill {self.prompt_tokens:,}; {share:.0%} of that is reused")
        chain = [words(graph.item(p)).title or "?" for p in plan.critical if is_model_work(graph.item(p))]
        if chain:
            lines.append(
                f"critical path: {short(' → '.join(chain), 90)}, "
                f"{_many(round(plan.steps), 'step')} of the {plan.total:,.0f} it takes one after another"
            )
        if graph.stop is not None:
            lines.append(f"the template stops at {graph.stop}; from there on the graph grows as the program runs")
        return lines

    def mermaid(self) -> str:
        """The graph in Mermaid's language."""
        return mermaid(self.graph, self.schedule)

    def svg(self) -> str:
        """The graph as a self-contained SVG, for light and dark pages."""
        return svg(self.graph, self.schedule, self.summary())

    def _repr_html_(self) -> str:
        return self.svg()

    def __str__(self) -> str:
        arguments = ", ".join(self.graph.arguments())
        lines = [f"{self.graph.program}({arguments})", *_tree(self, 0, "", 0), "", *self.summary()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<explanation of {self.graph.program!r}: {_many(len(self.graph.order), 'item')}, "
            f"{_many(self.gens, 'call')} of the model>"
        )


def explain(
    graph: Graph,
    defaults: Sampling,
    count: Callable[[str], int | None] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Explanation:
    """Explain a graph. `count` is the backend's count_tokens, or None; `arguments` are those that have values."""
    exact = count is not None and count("a") is not None
    known: dict[str, int] = {}

    def tokens(text: str) -> int:
        if text not in known:
            found = count(text) if count is not None and exact else None
            known[text] = _guess(text) if found is None else found
        return known[text]

    def value(source: Argument | Value) -> Any:
        if isinstance(source, Value) or source.path[0] not in (arguments or {}):
            raise LookupError
        found: Any = arguments
        for key in source.path:
            found = found[key]
        return found

    def text(reference: Reference) -> str | None:
        try:
            return str(fill(reference, value))
        except LookupError:
            return None

    return Explanation(graph, schedule(graph, defaults, tokens, text), exact)


def _guess(text: str) -> int:
    return -(-len(text) // 4)


def _tree(self: Explanation, stream: int, margin: str, depth: int) -> Iterator[str]:
    graph = self.graph
    items = graph.streams[stream].items
    for index, item in enumerate(items):
        position = (stream, index)
        last = index == len(items) - 1
        yield margin + ("└ " if last else "├ ") + _line(self, position)
        if not isinstance(item, Fork):
            continue
        below = margin + ("  " if last else "│ ")
        if depth >= MOST_DEPTH:
            yield below + "└ …"
            continue
        for branch in branches(graph, item):
            yield f"{below}├─ {branch_words(graph, branch)}"
            yield from _tree(self, branch.stream, below + "│  ", depth + 1)


def _line(self: Explanation, position: Position) -> str:
    item = self.graph.item(position)
    word = words(item)
    estimate = self.schedule.estimates[position]
    said = " ".join(part for part in (word.title, short(word.detail, 60)) if part)
    if word.kind == "text":
        said = f'"{short(word.detail, 60)}"'
    notes = []
    if isinstance(item, Gen):
        notes.append(f"at most {_many(estimate.tokens, 'token')}")
    elif estimate.tokens:
        notes.append(_many(estimate.tokens, "token"))
    if isinstance(item, Gen | Select):
        notes.append(f"after {self.schedule.prompt[position]}")
        together = self.schedule.together(estimate.level)
        if together > 1:
            notes.append(f"one of {together} at once")
        if position in self.schedule.critical:
            notes.append("critical")
    return f"{word.kind:<6} {said}".rstrip() + (f"   [{', '.join(notes)}]" if notes else "")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"
