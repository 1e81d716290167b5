"""An executor without a model: runs the real scheduler in milliseconds, and shows every page that was wrongly used."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from zlib import crc32  # hash() of a string differs from one process to the next

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
        return StepResult({chunk.request.id: (self._compute(chunk),) for chunk in reversed(plan.chunks)})

    def _compute(self, chunk: Chunk) -> int:
        request, size = chunk.request, self.page_size
        value = crc32(repr(request.namespace).encode())
        if chunk.start:
            value = self._slots[chunk.pages[(chunk.start - 1) // size]][(chunk.start - 1) % size]
        for position in range(chunk.start, chunk.stop):
            value = hash((value, request.tokens[position]))
            self._slots[chunk.pages[position // size]][position % size] = value
        self.tokens += chunk.length
        if not chunk.samples:
            return 0
        table = chunk.pages[: -(-chunk.stop // size)]
        values = list(chain.from_iterable(self._slots[page] for page in table))[: chunk.stop]
        return hash(tuple(values)) % self.vocabulary
