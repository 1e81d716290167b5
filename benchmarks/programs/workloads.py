"""The SGLang paper's programs (arXiv 2312.07104, section 6) at its shapes, every length times one factor.

Each workload is a program and its rows. Lengths are in tokens of the paper's setting; `scale` shrinks texts, outputs
and the number of rows alike, so that a laptop finishes. Answers are made to their full length (ignore_eos) where the
paper fixes it, so that all variants do the same work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ramify as sgl

from .texts import Texts


@dataclass(frozen=True)
class Workload:
    """A program, the rows it is run on, and what it stands for."""

    name: str
    title: str
    program: Any
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """The one factor: of tokens, and (separately, at least one) of rows and rounds."""

    scale: float

    def tokens(self, number: int) -> int:
        return max(2, round(number * self.scale))

    def count(self, number: int, least: int = 2) -> int:
        return max(least, round(number * self.scale))


@sgl.function
def answer_letter(s, shots, question):
    s += shots + question + sgl.select("answer", [" A", " B", " C", " D"])


def mmlu(texts: Texts, size: Size) -> Workload:
    shots = "".join("".join(texts.question()) + "\n\n" for _ in range(5))
    rows = [{"shots": shots, "question": texts.question()[0]} for _ in range(size.count(64))]
    return Workload("mmlu", "5-shot questions with four letters", answer_letter, rows)


@sgl.function
def choose_ending(s, shots, beginning, endings):
    s += shots + beginning + sgl.select("ending", endings)


def hellaswag(texts: Texts, size: Size) -> Workload:
    shots = "".join(b + right + "\n\n" for b, _, right in (texts.ending() for _ in range(size.count(20))))
    rows = []
    for _ in range(size.count(64)):
        beginning, endings, _ = texts.ending()
        rows.append({"shots": shots, "beginning": beginning, "endings": endings})
    return Workload("hellaswag", "20-shot select of 4 endings", choose_ending, rows)


@sgl.function
def react(s, rules, question, observations, length):
    s += rules + f"\nQuestion: {question}\n"
    for number, observation in enumerate(observations):
        s += f"Thought {number + 1}:" + sgl.gen(f"thought_{number}", max_tokens=length, ignore_eos=True)
        s += f"\nObservation {number + 1}: {observation}\n"
    s += "Answer:" + sgl.gen("answer", max_tokens=length, ignore_eos=True)


def agents_react(texts: Texts, size: Size) -> Workload:
    rules = texts.words(size.tokens(1600))
    rows = [
        {
            "rules": rules,
            "question": texts.sum(),
            "observations": [texts.words(size.tokens(100)) for _ in range(4)],
            "length": size.tokens(64),
        }
        for _ in range(size.count(16))
    ]
    return Workload("react", "ReAct: 5 gens over a 1.6k prefix", react, rows)


@sgl.function
def remember(s, persona, memory, length):
    s += persona + memory + "\nWhat happens next:" + sgl.gen("next", max_tokens=length, ignore_eos=True)


def generative_agents(texts: Texts, size: Size) -> Workload:
    people = [texts.words(size.tokens(300)) for _ in range(size.count(12))]
    rows = [
        {"persona": people[i % len(people)], "memory": texts.words(size.tokens(100)), "length": size.tokens(48)}
        for i in range(size.count(96))
    ]
    return Workload("agents", "generative agents: calls of a dozen people", remember, rows)


@sgl.function
def tree_of_thought(s, shots, question, branches, depth, length):
    s += shots + f"\nQuestion: {question}\n"
    level = [s]
    for _ in range(depth):
        children = []
        for parent in level:
            forks = parent.fork(branches)
            for number, child in enumerate(forks):
                child += f"Idea {number + 1}:" + sgl.gen("idea", max_tokens=length, ignore_eos=True) + "\n"
                children.append(child)
        level = children
    for leaf in level:
        leaf += "Mark:" + sgl.gen("mark", max_tokens=2, ignore_eos=True)
    s["marks"] = [leaf["mark"] for leaf in level]


def thoughts(texts: Texts, size: Size) -> Workload:
    shots = texts.words(size.tokens(500))
    rows = [
        {"shots": shots, "question": texts.sum(), "branches": 3, "depth": 3, "length": size.tokens(64)}
        for _ in range(size.count(8))
    ]
    return Workload("tot", "tree of thought: branch 3, depth 3", tree_of_thought, rows)


@sgl.function
def skeleton_of_thought(s, topic, points, short, long):
    s += f"{topic}\nAn outline:\n"
    for number in range(points):
        s += f"{number + 1}." + sgl.gen(f"point_{number}", max_tokens=short, ignore_eos=True) + "\n"
    forks = s.fork(points)
    for number, fork in enumerate(forks):
        fork += f"Point {number + 1} in full:" + sgl.gen("detail", max_tokens=long, ignore_eos=True)
    forks.join()
    s += "All in all:" + "".join(s["detail"]) + "\nIn short:" + sgl.gen("end", max_tokens=short, ignore_eos=True)


def skeletons(texts: Texts, size: Size) -> Workload:
    rows = [
        {"topic": texts.words(size.tokens(200)), "points": 5, "short": size.tokens(20), "long": size.tokens(100)}
        for _ in range(size.count(12))
    ]
    return Workload("sot", "skeleton of thought: 5 + 5", skeleton_of_thought, rows)


@sgl.function
def judge(s, article, criteria, length):
    s += f"Article: {article}\n"
    forks = s.fork(len(criteria))
    for criterion, fork in zip(criteria, forks, strict=True):
        fork += f"About its {criterion}:" + sgl.gen("opinion", max_tokens=length, ignore_eos=True)
    forks.join()
    s += "Verdict:" + "".join(s["opinion"]) + sgl.gen("verdict", max_tokens=length, ignore_eos=True)


def judges(texts: Texts, size: Size) -> Workload:
    criteria = ["clarity", "evidence", "style", "depth", "structure", "honesty"]
    rows = [
        {"article": texts.words(size.tokens(1000)), "criteria": criteria, "length": size.tokens(64)}
        for _ in range(size.count(12))
    ]
    return Workload("judge", "judge: fork 6 over 1k articles", judge, rows)


CITY: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 24},
        "kind": {"enum": ["person", "place", "event", "work", "other"]},
        "year": {"type": "integer", "minimum": 0, "maximum": 2100},
        "country": {"type": "string", "maxLength": 16},
        "famous": {"type": "boolean"},
    },
    "required": ["title", "kind", "year", "country", "famous"],
    "additionalProperties": False,
}


@sgl.function
def extract(s, rules, text):
    s += f"{rules}\nText: {text}\nAs JSON: " + sgl.gen("object", json_schema=CITY, max_tokens=120)


def json_objects(texts: Texts, size: Size) -> Workload:
    rules = texts.words(size.tokens(300))
    rows = [{"rules": rules, "text": texts.words(size.tokens(200))} for _ in range(size.count(32))]
    return Workload("json", "JSON objects from texts", extract, rows)


@sgl.function
def chat(s, turns, length):
    for number, turn in enumerate(turns):
        s += sgl.user(turn)
        s += sgl.assistant(sgl.gen(f"answer_{number}", max_tokens=length, ignore_eos=True))


def chats(texts: Texts, size: Size, length: int = 6, name: str = "chat short") -> Workload:
    rows = [
        {"turns": [texts.words(size.tokens(384)) for _ in range(4)], "length": length} for _ in range(size.count(16))
    ]
    return Workload(name, f"multi-turn: 4 x (256-512 in, {length} out)", chat, rows)


def long_chats(texts: Texts, size: Size) -> Workload:
    return chats(texts, size, size.tokens(384), "chat long")


@sgl.function
def ask_over(s, rules, passages, question, length):
    s += rules + "".join(f"\nPassage: {passage}" for passage in passages)
    s += f"\nQuestion: {question}\nAnswer:" + sgl.gen("answer", max_tokens=length, ignore_eos=True)


def retrieval(texts: Texts, size: Size) -> Workload:
    rules = texts.words(size.tokens(200))
    shelf = [texts.words(size.tokens(300)) for _ in range(size.count(8))]
    rows = [
        {
            "rules": rules,
            "passages": [shelf[(i + k) % len(shelf)] for k in range(2)],
            "question": texts.sum(),
            "length": size.tokens(32),
        }
        for i in range(size.count(48))
    ]
    return Workload("rag", "questions over retrieved passages", ask_over, rows)


MAKERS: Mapping[str, Callable[[Texts, Size], Workload]] = {
    "mmlu": mmlu,
    "hellaswag": hellaswag,
    "react": agents_react,
    "agents": generative_agents,
    "tot": thoughts,
    "sot": skeletons,
    "judge": judges,
    "json": json_objects,
    "chat short": chats,
    "chat long": long_chats,
    "rag": retrieval,
}
