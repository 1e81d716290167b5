"""ramify itself, through its public interface."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import Any

import ramify
from measuring import main
from protocol import Adapter, Completion, Job, Request
from ramify.runtime.sampling.params import SamplingParams


class RamifyAdapter(Adapter):
    """`Engine.generate` and `Engine.score` on token ids."""

    def __init__(self, job: Job) -> None:
        options: dict[str, Any] = {"threads": job.threads, "progress": False, **job.options}
        self.engine = ramify.Engine("smollm2", **options)
        self.settings = {"engine": self.engine.stats().model, **options}
        self.versions = {"ramify": ramify.__version__, "torch": importlib.metadata.version("torch")}

    def generate(self, requests: list[Request]) -> list[Completion]:
        results = self.engine.generate(
            [request.tokens for request in requests], [sampling(request) for request in requests]
        )
        return [
            Completion(tokens=list(one.token_ids), text=one.text, cached_tokens=one.usage.cached_tokens)
            for one in results
        ]

    def select(self, requests: list[Request]) -> list[Completion]:
        scores = self.engine.score([item.tokens for item in requests], [item.options or [] for item in requests])
        return [Completion(choice=max(range(len(group)), key=lambda i: group[i].mean)) for group in scores]

    def reset(self) -> None:
        self.engine.flush_cache()

    def counters(self) -> dict[str, float]:
        stats = dataclasses.asdict(self.engine.stats())
        numbers = {**stats, **stats.pop("scheduler")}
        return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}

    def close(self) -> None:
        self.engine.close()


def sampling(request: Request) -> SamplingParams:
    """Greedy, of exactly the length asked for (or up to it, inside a schema)."""
    if not request.schema:
        return SamplingParams(temperature=0.0, max_tokens=request.max_tokens, ignore_eos=True)
    return SamplingParams(temperature=0.0, max_tokens=request.max_tokens, json_schema=request.schema)


if __name__ == "__main__":
    main(RamifyAdapter)
