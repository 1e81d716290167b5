"""Who of the waiting comes in next, and whether there is room for it: the policy's order, with ageing above it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..cache.memory import KVMemory
from .lengths import OutputLengths
from .plan import Chunk
from .policies import POLICIES, PolicyName, look_up
from .request import Request, RequestState
from .waiting import WaitingQueue

_FIRST_OF_ALL = -(1 << 62)  # before every priority


class Admission:
    """The waiting requests and the rules of the door.

    A request leaves the queue at most `patience` departures later than it would in order of arrival (retracted
    requests, which keep their old places, not counted): one that is so late is overdue, goes first, and while it
    cannot go nobody does. Once admitted it is senior to every priority, so that it is not retracted for a newcomer.
    """

    def __init__(self, memory: KVMemory, policy: PolicyName, patience: int, window: int, quantile: float) -> None:
        self.lengths = OutputLengths(quantile)
        self._memory = memory
        self._policy = POLICIES[policy]()
        self._patience = patience
        self._window = window
        self._queue = WaitingQueue(self._policy.rank)
        self._tickets = 0
        self._departures = 0  # admitted, admitted again, aborted
        self._ordered: Iterator[Request] = iter(())
        self._looks = 0
        self._computing: set[tuple[object, ...]] = set()
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._queue)

    # ---- the queue

    def add(self, request: Request) -> None:
        """Queue a new request behind all that are there."""
        request.ticket = self._tickets
        self._tickets += 1
        # Were everybody served in order of arrival, so many would leave before it; `patience` more is the limit.
        request.deadline = self._departures + len(self._queue) + self._patience
        self._queue.add(request)

    def put_back(self, request: Request) -> None:
        """Queue a retracted request, at its old place."""
        self._queue.add(request)

    def remove(self, request: Request) -> None:
        """Take out a request, because it is admitted or because it was aborted."""
        self._queue.remove(request)
        self._departures += 1

    # ---- the door

    def open(self, running: Sequence[Request], chunks: Iterable[Chunk]) -> bool:
        """Begin admitting for a step that so far has these chunks; False if nobody could come in."""
        if not len(self._queue):
            return False
        self._reserved = sum(map(self._growth, running))
        if running and self._memory.room <= self._reserved:
            return False
        self._ordered = iter(())
        self._looks = 2  # at the head of the queue; the second when all of the first came in or wait for siblings
        self._computing.clear()
        for chunk in chunks:
            self._note_computing(chunk)
        return True

    def next(self, running: Sequence[Request]) -> Request | None:
        """The request to admit now, or None. It stays in the queue until it is removed."""
        while len(self._queue):
            oldest = self._queue.oldest()
            if oldest.deadline <= self._departures:
                if self._waits_for_sibling(oldest) or not self._fits(oldest, running):
                    return None
                oldest.seniority = (_FIRST_OF_ALL, oldest.ticket)
                return oldest
            request = next((one for one in self._ordered if one.state is RequestState.WAITING), None)
            if request is not None:
                if self._waits_for_sibling(request):
                    continue
                request.seniority = (-request.priority, request.ticket)
                return request if self._fits(request, running) else None
            if not self._looks:
                return None
            self._looks -= 1
            self._ordered = iter(self._policy.order(self._queue.first(self._window), self._memory))
        return None

    def note_admitted(self, request: Request, chunk: Chunk | None) -> None:
        """Reserve what the new request will need beyond its pages, and let its siblings wait for its chunk."""
        self._reserved += self._growth(request)
        if chunk is not None:
            self._note_computing(chunk)

    def _note_computing(self, chunk: Chunk) -> None:
        """A prefill's place in the tree, and the page that it computes next: whoever needs that page next waits."""
        lease = chunk.request.lease
        if lease is None or (chunk.length == 1 and chunk.samples):
            return
        size = self._memory.page_size
        start = lease.shared * size
        page = chunk.request.tokens[start : start + size]
        if len(page) == size:
            self._computing.add((lease.node, *page))

    def _waits_for_sibling(self, request: Request) -> bool:
        match = look_up(self._memory, request)
        stop = match.length + self._memory.page_size
        if match.inside is not None or stop > request.match_limit:
            return False
        return (match.node, *request.tokens[match.length : stop]) in self._computing

    # ---- room

    def _fits(self, request: Request, running: Sequence[Request]) -> bool:
        """Whether it and all that run can be expected to end without a retraction. Alone, it may always try."""
        return not running or self._need(request) <= self._memory.room - self._reserved

    def _expected_pages(self, request: Request) -> int:
        """The pages the request is expected to hold in the end; its last token is never computed."""
        output = self.lengths.expected(len(request.output), request.limit - request.prompt_length)
        return self._memory.pages_for(max(request.prompt_length + output - 1, len(request.tokens)))

    def _growth(self, request: Request) -> int:
        return max(0, self._expected_pages(request) - len(request.pages))

    def _need(self, request: Request) -> int:
        """By how many pages admitting it would shrink the room, in the end."""
        match = request.known
        size = self._memory.page_size
        need = self._expected_pages(request) - match.length // size
        if match.inside is not None and not match.inside.active:
            need += (match.length - match.end) // size
        node = match.node
        while node is not None and not node.active:  # cached pages that could no longer be evicted
            need += len(node.pages)
            node = node.parent
        return need
