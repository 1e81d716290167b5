"""The workloads as data: prompts in token ids, cut from real text to exact lengths, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Protocol

from .corpus import Corpus, Example

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 24},
        "topic": {"type": "string", "enum": ["history", "science", "sport", "music", "geography", "other"]},
        "year": {"type": "integer", "minimum": 0, "maximum": 2100},
        "people": {"type": "integer", "minimum": 0, "maximum": 999},
        "place": {"type": "string", "maxLength": 24},
        "about_a_person": {"type": "boolean"},
        "question": {"type": "string", "maxLength": 32},
        "difficulty": {"type": "string", "enum": ["easy", "medium", "hard"]},
    },
    "required": ["title", "topic", "year", "people", "place", "about_a_person", "question", "difficulty"],
    "additionalProperties": False,
}
TRIES = 1000  # examples looked at for one that fits
JSON_LIMIT = 160  # tokens; an answer of the schema needs 60 to 120


class Encoder(Protocol):
    """What a workload needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Run:
    """One repeat, on texts of its own; the time of `baseline` is subtracted from that of `requests`."""

    requests: list[dict[str, Any]]
    baseline: list[dict[str, Any]] | None = None
    counted_tokens: int | None = None  # given: the figure is these tokens by the seconds


@dataclass(frozen=True)
class Workload:
    """What to send, and what the figure is: seconds of wall time (less is better) or tokens a second."""

    name: str
    title: str
    label: str
    unit: str
    runs: list[Run]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> dict[str, Any]:
        """Everything about it but the texts, for the result."""
        return {"title": self.title, "label": self.label, "unit": self.unit, "less_is_better": self.unit == "s"}


class Source:
    """Deals out pieces of the corpus in exact token lengths and never the same piece twice."""

    def __init__(self, corpus: Corpus, tokenizer: Encoder) -> None:
        self._tokenizer = tokenizer
        self._reading = self._deal(corpus.reading)
        self._choices = self._deal(corpus.multiple_choice)

    @staticmethod
    def _deal(examples: list[Example]) -> Iterator[Example]:
        for round_number in count(1):
            for example in examples:
                yield example if round_number == 1 else example.again(round_number)

    def shots(self, length: int) -> list[int]:
        """Solved examples one after another, cut to `length` tokens: the shared part of a few-shot prompt."""
        tokens: list[int] = []
        while len(tokens) < length:
            tokens += self._tokenizer.encode(next(self._reading).solved() + "\n\n")
        return tokens[:length]

    def question(self, length: int) -> list[int]:
        """The last `length` tokens of one unsolved example, which end in "Answer:"."""
        for _ in range(TRIES):
            tokens = self._tokenizer.encode(next(self._reading).prompt)
            if len(tokens) >= length:
                return tokens[-length:]
        raise ValueError(f"the corpus has no example of {length} tokens")

    def choice(self, length: int, option_length: int) -> tuple[list[int], list[list[int]]]:
        """A multiple-choice question of `length` tokens (padded on the left with another's text), four options."""
        before: list[int] = []
        for _ in range(TRIES):
            example = next(self._choices)
            options = [self._tokenizer.encode(" " + option)[:option_length] for option in example.options]
            tokens = before + self._tokenizer.encode("\n\n" + example.prompt)
            distinct = len({tuple(option) for option in options if len(option) == option_length})
            if len(tokens) >= length and distinct == len(options) == 4:
                return tokens[-length:], options
            before = tokens[-length:]
        raise ValueError(f"the corpus has no question with four different options of {option_length} tokens")

    def text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


def request(tokens: list[int], max_tokens: int, **more: Any) -> dict[str, Any]:
    return {"tokens": tokens, "max_tokens": max_tokens, **more}


def few_shot(source: Source, number: int = 64) -> Run:
    shared = source.shots(1000)
    return Run([request(shared + source.question(60), 16) for _ in range(number)])


def tree(source: Source, branches: int = 4, depth: int = 3) -> Run:
    """A tree of thoughts: each node continues its parent's prompt and answer, behind a marker of its own."""
    root = source.shots(340) + source.question(60)
    requests: list[dict[str, Any]] = []
    parents: list[int | None] = [None]
    for _ in range(depth):
        children: list[int | None] = []
        for parent in parents:
            for branch in range(branches):
                marker = source.text(f"\nIdea {branch + 1}:")
                children.append(len(requests))
                requests.append(request((root if parent is None else []) + marker, 32, parent=parent))
        parents = children
    return Run(requests)


def chats(source: Source, number: int = 8, turns: int = 4) -> Run:
    requests: list[dict[str, Any]] = []
    opening = source.text("<|im_start|>user\n")
    middle, closing = source.text("<|im_end|>\n<|im_start|>user\n"), source.text("<|im_end|>\n<|im_start|>assistant\n")
    for turn in range(turns):
        for _ in range(number):
            before = opening if turn == 0 else middle
            tokens = before + source.question(100 - len(before) - len(closing)) + closing
            requests.append(request(tokens, 64, parent=None if turn == 0 else len(requests) - number))
    return Run(requests)


def json_answers(source: Source, number: int = 32) -> Run:
    ending = source.text("\nDescribe the text above as JSON:\n")
    return Run([request(source.question(200 - len(ending)) + ending, JSON_LIMIT, schema=SCHEMA) for _ in range(number)])


def selects(source: Source, number: int = 64) -> Run:
    shared = source.shots(600)
    requests = []
    for _ in range(number):
        question, options = source.choice(40, 3)
        requests.append(request(shared + question, 0, options=options))
    return Run(requests)


def prefill(source: Source, length: int) -> Run:
    return Run([request(source.shots(length), 1)], counted_tokens=length)


def decode(source: Source, streams: int, context: int = 256, steps: int = 64) -> Run:
    """The same number of contexts twice, other texts: once for one token each, once for `steps` more."""
    contexts = [source.shots(context) for _ in range(2 * streams)]
    return Run(
        [request(tokens, 1 + steps) for tokens in contexts[:streams]],
        baseline=[request(tokens, 1) for tokens in contexts[streams:]],
        counted_tokens=streams * steps,
    )


@dataclass(frozen=True)
class Recipe:
    """How a workload is made, how often it is repeated, and how it shrinks to a smoke test."""

    title: str
    label: str  # a word or two, for the chart
    unit: str
    make: Callable[..., Run]
    arguments: dict[str, int] = field(default_factory=dict)
    smoke: dict[str, int] = field(default_factory=dict)
    repeats: int = 3
    quick_repeats: int = 1


RECIPES = {
    "P512": Recipe("prefill of 512 tokens", "prefill", "tok/s", prefill, {"length": 512}, {"length": 64}, 7, 5),
    "P2048": Recipe("prefill of 2048 tokens", "prefill", "tok/s", prefill, {"length": 2048}, {"length": 128}, 5, 3),
    "D1": Recipe("decode, 1 stream", "decode", "tok/s", decode, {"streams": 1}, {"steps": 8}, 7, 3),
    "D8": Recipe("decode, 8 streams", "decode", "tok/s", decode, {"streams": 8}, {"steps": 4, "context": 32}, 5, 2),
    "D32": Recipe("decode, 32 streams", "decode", "tok/s", decode, {"streams": 32}, {"steps": 4, "context": 32}, 3, 1),
    "W1": Recipe(
        "64 few-shot requests: 1,000 shared + 60 own tokens, 16 out", "few-shot", "s", few_shot, {}, {"number": 3}
    ),
    "W2": Recipe("tree: 400-token root, 4 branches, depth 3, 84 x 32 out", "tree", "s", tree, {}, {"depth": 1}),
    "W3": Recipe("8 chats of 4 turns, 100 in and 64 out each", "chats", "s", chats, {}, {"number": 2, "turns": 2}),
    "W4": Recipe("32 JSON answers: 200-token prompt, 8-field schema", "JSON", "s", json_answers, {}, {"number": 2}),
    "W5": Recipe("64 selects of 4 options: 600 shared + 40 own tokens", "selects", "s", selects, {}, {"number": 2}),
}
SIZES = ("full", "quick", "smoke")


def build(corpus: Corpus, tokenizer: Encoder, names: Collection[str], size: str = "full") -> list[Workload]:
    """The named workloads. A workload's texts do not depend on which others are built."""
    workloads = []
    for position, (name, recipe) in enumerate(RECIPES.items()):
        if name in names:
            source = Source(corpus.part(position, len(RECIPES) + 1), tokenizer)
            arguments = recipe.arguments | (recipe.smoke if size == "smoke" else {})
            repeats = {"full": recipe.repeats, "quick": recipe.quick_repeats, "smoke": 1}[size]
            runs = [recipe.make(source, **arguments) for _ in range(repeats)]
            workloads.append(Workload(name, recipe.title, recipe.label, recipe.unit, runs))
    return workloads


def warm_up(corpus: Corpus, tokenizer: Encoder, size: str = "full") -> list[dict[str, Any]]:
    """Requests of many lengths on text that no workload uses; run once before anything is timed."""
    source = Source(corpus.part(len(RECIPES), len(RECIPES) + 1), tokenizer)
    lengths = (40,) if size == "smoke" else (40, 100, 256, 256, 300, 512, 700, 1060)
    return [request(source.shots(length), 12) for length in lengths]
