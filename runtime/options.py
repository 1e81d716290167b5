"""How an engine is set up: one frozen dataclass, from which the command line is made too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import InvalidRequest

Mode = Literal["auto", "fp32", "bf16", "fp8", "int8", "int4"]
Policy = Literal["lpm", "dfs-weight", "fcfs", "priority"]
Eviction = Literal["lru", "lfu"]
CacheType = Literal["auto", "fp8"]


def _option(default: Any, help: str, low: int | None = None) -> Any:
    return field(default=default, metadata={"help": help, "low": low})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Every option has a default that is right for a laptop; None means: decided from the model and the machine."""

    mode: Mode = _option(
        "auto", "arithmetic: fp32 is exact, auto is the fastest that costs less than 2% perplexity (fp8: only GPUs)"
    )
    device: str = _option("cpu", "where the model runs")
    threads: int | None = _option(None, "threads of the CPU path (default: the cores this process may use)", 1)
    context_length: int | None = _option(None, "longest prompt plus answer, in tokens (default: the model's own)", 2)
    page_size: int = _option(16, "tokens in a page of KV memory; prefixes are shared page by page", 1)
    cache_type: CacheType = _option("auto", "KV memory in the type of the arithmetic, or (on GPUs) fp8: half of it")
    cache_tokens: int | None = _option(None, "KV memory, in tokens (default: from the memory that is free)", 2)
    step_tokens: int | None = _option(
        None, "most tokens of one step (default: 512, on a GPU 4096); fewer is smoother", 1
    )
    max_running: int = _option(128, "most requests that decode together", 1)
    policy: Policy = _option("lpm", "order of waiting requests: longest cached prefix, tree order, arrival, priority")
    eviction: Eviction = _option("lru", "which cached pages go first when memory runs out")
    prefix_cache: bool = _option(True, "reuse the KV of equal prefixes across requests")
    holds: bool = _option(True, "keep cached tokens that live programs will come back to")
    jump_forward: bool = _option(True, "append text that a grammar leaves no choice about without decoding it")
    overlap: bool | None = _option(
        None, "plan the next step while the device computes this one (default: where the device is not the CPU)"
    )
    progress: bool | None = _option(None, "progress bars on stderr (default: when it is a terminal)")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):
            value, allowed = getattr(self, item.name), hints[item.name]
            if not _fits(value, allowed):
                raise InvalidRequest(f"{item.name}={value!r}: expected {_spell(allowed)} ({item.metadata['help']})")
            low = item.metadata["low"]
            if low is not None and value is not None and not low <= value <= 2**31:
                raise InvalidRequest(f"{item.name}={value!r}: expected a number from {low} to 2**31")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> EngineOptions:
        """Options from keyword arguments; an unknown name is an error that lists the known ones."""
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                raise InvalidRequest(f"Engine has no option {name!r}; it has {', '.join(known)}")
        return cls(**given)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) not in (None, Literal) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for one in _alternatives(hint):
        if get_origin(one) is Literal:
            if isinstance(value, str) and value in get_args(one):
                return True
        elif type(value) is one:  # exactly: True is no number of threads
            return True
    return False


def _spell(hint: Any) -> str:
    names: list[str] = []
    for one in _alternatives(hint):
        names += list(map(repr, get_args(one))) if get_origin(one) is Literal else [getattr(one, "__name__", str(one))]
    return " or ".join("None" if name == "NoneType" else name for name in names)
