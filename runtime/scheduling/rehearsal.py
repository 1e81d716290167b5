"""Executors without a model: run the real scheduler in milliseconds, and show every page that was wrongly used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from zlib import crc32  # hash() of a string differs from one process to the next

from ..cache.memory import KVMemory, Lease
from .plan import Chunk, Plan, StepResult


def rehearse_tokens(prompt: Sequence[int], vocabulary: int, namespace: Hashable = None) -> Iterator[int]:
    """What RehearsalExecutor must choose after `prompt`, token by token without end, computed without any pages."""
    values: list[int] = []
    value = crc32(repr(namespace).encode())
    for token in prompt:
        value = hash((value, token))
        values.append(value)
    while True:
        token = hash(tuple(values)) % vocabulary
        yield token
        value = hash((value, token))
        values.append(value)


class RehearsalExecutor:
    """Keeps, in each slot of a page, a hash of the whole prefix that the slot stands for, and chooses the next token
    from all the slots its page table leads to: one stale, foreign or missing page gives another token.

    Pages are never cleared, as in a real cache. `tokens` counts what was computed.
    """

    def __init__(self, pages: int, page_size: int, vocabulary: int = 1 << 16) -> None:
        self.page_size = page_size
        self.vocabulary = vocabulary
        self.tokens = 0
        self._slots = [[0] * page_size for _ in range(pages)]  # [page][slot]

    def run(self, plan: Plan) -> StepResult:
        """Backwards, since no chunk may rely on what another one of the same step computes."""
        chunks = list(reversed(plan.chunks))
        return StepResult({chunk.request.id: (self._compute(chunk),) for chunk in chunks})

    def _compute(self, chunk: Chunk, tokens: Sequence[int] | None = None) -> int:
        """The next token, or 0; `tokens` are the chunk's where they are not simply the request's."""
        request, size = chunk.request, self.page_size
        if tokens is None:
            tokens = known(chunk)
        value = crc32(repr(request.namespace).encode())
        if chunk.start:
            value = self._slots[chunk.pages[(chunk.start - 1) // size]][(chunk.start - 1) % size]
        for position, token in zip(range(chunk.start, chunk.stop), tokens, strict=True):
            value = hash((value, token))
            self._slots[chunk.pages[position // size]][position % size] = value
        self.tokens += chunk.length
        if not chunk.samples:
            return 0
        table = chunk.pages[: -(-chunk.stop // size)]
        values = list(chain.from_iterable(self._slots[page] for page in table))[: chunk.stop]
        return hash(tuple(values)) % self.vocabulary


def known(chunk: Chunk) -> list[int]:
    """The tokens that the chunk computes, as far as they are known."""
    return chunk.request.tokens[chunk.start : chunk.stop]


@dataclass(slots=True)
class RehearsalFlight:
    """A step that the device will run when it must, with all that it was told at launch."""

    plan: Plan
    chunks: list[Chunk]  # with page tables of their own
    leases: list[Lease]
    tokens: list[list[int]]  # of each chunk
    follows: dict[int, int]  # by request: the draw of the step before whose token is the chunk's
    grounded: bool = False
    likeliest: dict[int, int] = field(default_factory=dict)  # by request, once the step has run: its "logits"
    drawn: list[int] = field(default_factory=list)  # requests, in the order of their draws
    result: dict[int, tuple[int, ...]] = field(default_factory=dict)
    done: bool = False
    failed: bool = False  # the host has seen an error and does not wait for it


class RehearsalDevice(RehearsalExecutor):
    """A device beside the host, as an OverlapExecutor: it does in order what it was told, and as late as it may.

    When a step runs at last, each page that it writes must still belong to the request for which it was launched, and
    to nobody else: else AssertionError. What was chosen, too, is known only when it is asked for. `log` tells the
    order of launches, choices and waits.
    """

    def __init__(self, memory: KVMemory, vocabulary: int = 1 << 16) -> None:
        super().__init__(memory.total, memory.page_size, vocabulary)
        self.log: list[tuple[str, int]] = []
        self._memory = memory
        self._told: deque[Callable[[], None]] = deque()
        self._last_draws: list[int] = []  # on the device

    def launch(self, plan: Plan, before: RehearsalFlight | None) -> RehearsalFlight:
        self.log.append(("launch", plan.step))
        order = {} if before is None else {request_id: draw for draw, request_id in enumerate(before.drawn)}
        leases = [chunk.request.lease for chunk in plan.chunks]
        flight = RehearsalFlight(
            plan,
            [replace(chunk, pages=tuple(chunk.pages)) for chunk in plan.chunks],
            [lease for lease in leases if lease is not None],
            [known(chunk) for chunk in plan.chunks],
            {chunk.request.id: order[chunk.request.id] for chunk in plan.chunks if chunk.follows},
        )
        self._told.append(lambda: self._forward(flight))
        return flight

    def choose(self, flight: RehearsalFlight, live: Mapping[int, Chunk]) -> None:
        self.log.append(("choose", flight.plan.step))
        choosing = [chunk for chunk in live.values() if chunk.samples]
        for chunk in choosing:
            assert chunk.stop == len(chunk.request.tokens), "a token is chosen before the one in front of it is known"
        flight.drawn = [chunk.request.id for chunk in choosing]
        self._told.append(lambda: self._draw(flight))

    def collect(self, flight: RehearsalFlight) -> StepResult:
        self.log.append(("wait", flight.plan.step))
        while not flight.done:
            self.work()
        return StepResult(flight.result)

    def work(self) -> None:
        """Do the next thing that the device was told to do."""
        self._told.popleft()()

    def _forward(self, flight: RehearsalFlight) -> None:
        size = self.page_size
        for chunk, lease, tokens in reversed(list(zip(flight.chunks, flight.leases, flight.tokens, strict=True))):
            own = self._memory.writable(lease)
            for page in chunk.pages[chunk.start // size : -(-chunk.stop // size)]:
                if page not in own and not flight.failed:
                    raise AssertionError(f"step {flight.plan.step} writes page {page}, not {chunk.request}'s alone")
            if chunk.follows:
                tokens = [self._last_draws[flight.follows[chunk.request.id]]]
            flight.likeliest[chunk.request.id] = self._compute(chunk, tokens)

    def _draw(self, flight: RehearsalFlight) -> None:
        self._last_draws = [flight.likeliest[request_id] for request_id in flight.drawn]
        flight.result |= {one: (token,) for one, token in zip(flight.drawn, self._last_draws, strict=True)}
        flight.done = True
