"""What a graph says about time: how long each item takes, how much waits behind it, and what can run at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..nodes import Gen, Select
from ..sampling import Sampling
from .graph import Append, Graph, Item, Position, is_model_work
from .references import Composed, Reference, Value, references

PREFILL = 64  # tokens of a prompt that cost about as much as one decoding step
UNKNOWN = 16  # tokens that a value which is not there yet is taken for
Count = Callable[[str], int]
Known = Callable[[Reference], "str | None"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One item in numbers. Steps are decoding steps; everything is a guess before the run."""

    tokens: int  # that it adds to its stream
    start: float  # steps before it can begin
    steps: float  # that it takes
    behind: float  # steps from its beginning to the end of everything that waits for it
    level: int  # gens that must end before it; those of one level can run together

    @property
    def end(self) -> float:
        return self.start + self.steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """A graph in numbers: `estimates` by position, and the chain that decides how long it all takes."""

    estimates: dict[Position, Estimate]
    critical: tuple[Position, ...]
    prompt: dict[Position, int]  # tokens before a gen or select, in its stream and those it came out of
    levels: dict[int, int]  # how many gens and selects each level has

    def together(self, level: int) -> int:
        """How many gens and selects of a level can run at once."""
        return self.levels.get(level, 0)

    @property
    def steps(self) -> float:
        """Decoding steps from the beginning to the end."""
        return max((estimate.end for estimate in self.estimates.values()), default=0.0)

    @property
    def total(self) -> float:
        """Steps if everything ran one after another."""
        return sum(estimate.steps for estimate in self.estimates.values())

    @property
    def width(self) -> int:
        """How many gens are running at once at most."""
        moments = [
            moment
            for estimate in self.estimates.values()
            if estimate.steps >= 1
            for moment in ((estimate.start, 1), (estimate.end, -1))
        ]
        running = most = 0
        for _, change in sorted(moments):
            running += change
            most = max(most, running)
        return most


def schedule(graph: Graph, defaults: Sampling, count: Count, known: Known = lambda reference: None) -> Schedule:
    """Estimate a graph whose gens fall back on `defaults`.

    `count` says how many tokens a text is, `known` the text of a reference that is known before the run.
    """
    needs = dependencies(graph)
    tokens: dict[Position, int] = {}
    prompt: dict[Position, int] = {}
    start: dict[Position, float] = {}
    end: dict[Position, float] = {}
    level: dict[Position, int] = {}
    last_need: dict[Position, Position] = {}
    gate: Position | None = None  # of what the body has read so far, what comes last
    for position, item in graph.items():
        tokens[position] = item_tokens(item, defaults, count, known)
        before = graph.previous(position)
        prompt[position] = 0 if before is None else prompt[before] + tokens[before]
        start[position], level[position] = 0.0, 0
        if graph.waits:
            gate = max((*reads(item), *([gate] if gate else [])), key=end.__getitem__, default=None)
        for need in (*needs[position], *([gate] if gate else [])):
            if end[need] > start[position] or position not in last_need:
                last_need[position] = need
            start[position] = max(start[position], end[need])
            level[position] = max(level[position], level[need] + is_model_work(graph.item(need)))
        end[position] = start[position] + _steps(item, tokens[position])
    behind = _behind(graph, needs, {position: end[position] - start[position] for position in end})
    chain: list[Position] = []
    at = max(end, key=lambda position: end[position], default=None)
    while at is not None:
        chain.append(at)
        at = last_need.get(at)
    estimates = {
        position: Estimate(
            tokens[position], start[position], end[position] - start[position], behind[position], level[position]
        )
        for position in graph.order
    }
    levels = Counter(level[position] for position, item in graph.items() if is_model_work(item))
    return Schedule(estimates, tuple(reversed(chain)), prompt, dict(levels))


def dependencies(graph: Graph) -> dict[Position, tuple[Position, ...]]:
    """What each item must wait for, directly."""
    needs: dict[Position, list[Position]] = {position: [] for position in graph.order}
    for edge in graph.edges():
        needs[edge.after].append(edge.before)
    return {position: tuple(dict.fromkeys(found)) for position, found in needs.items()}


def reads(item: Item) -> tuple[Position, ...]:
    """The items whose values an item's texts are made of: where the body would stand and wait."""
    sources = [reference.source for reference in references(item)]
    return tuple(dict.fromkeys((s.stream, s.position) for s in sources if isinstance(s, Value)))


def item_tokens(item: Item, defaults: Sampling, count: Count, known: Known) -> int:
    """About how many tokens an item adds."""
    if isinstance(item, Append):
        text = item.text
        parts = text.parts if isinstance(text, Composed) else (text,)
        texts = [known(part) if isinstance(part, Reference) else part for part in parts]
        return sum(UNKNOWN if text is None else count(text) for text in texts)
    if isinstance(item, Gen):
        sampling = item.sampling.over(defaults)
        return sampling.max_new_tokens if sampling.max_new_tokens is not None else 128
    if isinstance(item, Select):
        return max((count(choice) for choice in item.choices if isinstance(choice, str)), default=UNKNOWN)
    return 0


def _steps(item: Item, tokens: int) -> float:
    if isinstance(item, Gen):
        return float(tokens)
    return tokens / PREFILL + (1.0 if isinstance(item, Select) else 0.0)


def idle_steps(graph: Graph, defaults: Sampling) -> dict[Position, float]:
    """How many steps a stream rests before an item that waits for others: when its cache is needed again."""
    plan = schedule(graph, defaults, lambda text: -(-len(text) // 4))
    found: dict[Position, float] = {}
    for position in graph.order:
        before = graph.previous(position)
        rest = plan.estimates[position].start - (plan.estimates[before].end if before is not None else 0.0)
        if rest >= 1 and before is not None and before[0] == position[0]:
            found[position] = rest
    return found


def calls_behind(graph: Graph) -> dict[Position, int]:
    """For each item, how many calls of the model wait behind it, in the longest chain."""
    calls = {position: float(is_model_work(item)) for position, item in graph.items()}
    found = _behind(graph, dependencies(graph), calls)
    return {position: int(found[position] - calls[position]) for position in graph.order}


def _behind(
    graph: Graph, needs: dict[Position, tuple[Position, ...]], steps: dict[Position, float]
) -> dict[Position, float]:
    behind = dict.fromkeys(graph.order, 0.0)
    later = 0.0  # the most that waits behind anything from here on
    for position in reversed(graph.order):
        behind[position] += steps[position]
        later = max(later, behind[position])
        for need in needs[position]:
            behind[need] = max(behind[need], behind[position])
        if graph.waits:
            for read in reads(graph.item(position)):
                behind[read] = max(behind[read], later)
    return behind
