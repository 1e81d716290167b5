"""Engines on the random model, one at a time, and how fast they decode in a steady state."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import ramify
import torch
from ramify.kernels.triton.compute import TritonCompute
from ramify.runtime.results import Delta
from ramify.runtime.weights.config import ModelConfig

from .random_model import LLAMA_8B, TINY, checkpoint
from .scene import Scene


def config(scene: Scene) -> ModelConfig:
    return scene.pick(LLAMA_8B, TINY)


def engine(scene: Scene, mode: str = "bf16", **options: Any) -> ramify.Engine:
    """The engine with these options, as `Engine(model, device="cuda")` makes it; kept until another is asked for.

    Its pool is what the GPU has free: whoever asks for the next one must have let go of the one before.
    """

    def make() -> ramify.Engine:
        with tempfile.TemporaryDirectory(prefix="ramify-made-") as folder:  # its tokenizer is read once
            model: Any = checkpoint(config(scene), scene.device, Path(folder))
            if not scene.rehearsal:
                return ramify.Engine(model, device="cuda", mode=mode, progress=False, **options)
            with interpreted():
                return ramify.Engine(model, mode=mode, progress=False, **{"cache_tokens": 4096, **options})

    return scene.hold(f"{mode} {sorted(options.items())}", make)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Engines made here run the GPU's kernels in Triton's interpreter."""

    def compute(device: str, mode: str, *_: object, fp8_cache: bool = False, **__: object) -> TritonCompute:
        return TritonCompute(mode, torch.device("cpu"), fp8_cache=fp8_cache)

    with mock.patch("ramify.runtime.loading.compute", compute):
        yield


@dataclass(frozen=True)
class Steady:
    """What one decode step costs while nobody joins and nobody leaves."""

    batch: int
    context: float  # tokens of a sequence, in the middle of the measured steps
    steps: int
    seconds: float  # of one step


class Decoding:
    """Requests that decode together. Ready when each has some tokens; over when the first is nearly done."""

    def __init__(self, engine: ramify.Engine, prompts: Sequence[Sequence[int]], tokens: int, skip: int) -> None:
        self._counts = [0] * len(prompts)  # all callbacks come on the engine's thread
        self._begun = 0
        self._skip, self._tokens = skip, tokens
        self.ready, self.over = threading.Event(), threading.Event()
        self.streams = [
            engine.stream(list(prompt), on_delta=self._counter(i), max_tokens=tokens, temperature=0, ignore_eos=True)
            for i, prompt in enumerate(prompts)
        ]

    def _counter(self, index: int) -> Any:
        def count(delta: Delta) -> None:
            before = self._counts[index]
            after = self._counts[index] = before + len(delta.token_ids)
            if before < self._skip <= after:
                self._begun += 1
                if self._begun == len(self._counts):
                    self.ready.set()
            if after >= self._tokens - 4:
                self.over.set()

        return count

    def wait(self, event: threading.Event, seconds: float = 120) -> bool:
        """Whether it came in time. Raises what a request failed with, instead of waiting for it."""
        until = perf_counter() + seconds
        while not event.wait(0.05) and perf_counter() < until:
            for stream in self.streams:
                if stream.done and (error := stream.error) is not None:
                    raise error
        return event.is_set()

    def begin(self) -> None:
        """Come back when all decode. The first time, every kernel is compiled before that."""
        if not self.wait(self.ready, 300):
            raise TimeoutError("the requests did not begin to decode within five minutes")

    def finish(self) -> None:
        for stream in self.streams:
            stream.result()

    def abandon(self) -> None:
        """End them where they are."""
        for stream in self.streams:
            stream.abort()
        for stream in self.streams:
            stream.wait()


def prompts(scene: Scene, batch: int, length: int) -> list[list[int]]:
    """Random prompts that share nothing."""
    vocabulary = config(scene).vocab_size
    generator = torch.Generator().manual_seed(batch)
    drawn: list[list[int]] = torch.randint(1, vocabulary, (batch, length), generator=generator).tolist()
    return drawn


def steady(scene: Scene, engine: ramify.Engine, batch: int) -> Steady:
    """Steps and seconds between the moment all have begun and the moment the first is nearly done, by the clock.

    Done once before, on a GPU, so that kernels are compiled and graphs are there.
    """
    if not scene.rehearsal:
        _steady(scene, engine, batch, 64)
    return _steady(scene, engine, batch, scene.pick(160 if scene.quick else 384, 8))


def _steady(scene: Scene, engine: ramify.Engine, batch: int, tokens: int) -> Steady:
    length = scene.pick(1024, 8)
    running = Decoding(engine, prompts(scene, batch, length), tokens, skip=scene.pick(16, 2))
    running.begin()
    before, started = engine.stats().steps, perf_counter()
    running.wait(running.over)
    steps, seconds = engine.stats().steps - before, perf_counter() - started
    running.finish()
    return Steady(batch, length + tokens / 2, steps, seconds / max(1, steps))
