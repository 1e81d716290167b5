"""Decides, step by step, which tokens of which requests are computed, and who gets memory. Knows no tensor."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence

from ...errors import InvalidRequest, RequestFailed, RequestTooLong
from ..cache.memory import KVMemory
from ..clock import Clock
from .admission import Admission
from .config import SchedulerConfig, SchedulerStats
from .finish import Finish
from .in_flight import PlansInFlight
from .plan import Chunk, Plan, StepResult
from .request import Request, RequestState, Rewrite


class _RoomIsInFlight(Exception):
    """There is no room for the next step before what is in flight has landed."""


class Scheduler:
    """Iteration-level scheduling: `plan()`, run it somewhere, `commit(plan, result)`. For one thread at a time.

    A step holds one token for every decoding request, then chunks of the prefills under way, then new requests,
    until the token budget is full. The most senior running request (by priority, then arrival; see Admission) always
    gets something done, and is never retracted: so everything ends, however small the memory.

    With `overlap`, the next plan may be made before the last one is committed: from where its chunks will end, with
    tokens that nobody knows yet. Where memory is short it is not made, so that all retractions are made on the ground.
    """

    def __init__(self, memory: KVMemory, config: SchedulerConfig, clock: Clock) -> None:
        self.memory = memory
        self.config = config
        self._clock = clock
        self._admission = Admission(memory, config.policy, config.patience, config.window, config.expected_quantile)
        self._running: list[Request] = []  # the most senior first
        self._requests: dict[int, Request] = {}  # waiting and running
        self._flights = PlansInFlight(memory)
        self._budget = config.token_budget  # less for a while, after the device had no memory for a step
        self._stalled = False  # nothing can be planned before a request that waits may go on, or something else happens
        self._steps = self._computed_tokens = self._cached_tokens = self._admissions = 0
        self._retractions = self._finished = self._aborted = self._failed = 0

    # ---- requests in and out

    def add(self, request: Request) -> None:
        """Queue a request. Raises RequestTooLong if not even one token could follow its prompt, alone."""
        if request.id in self._requests:
            raise InvalidRequest(f"request id {request.id} is in use by a request that has not finished")
        wanted = request.prompt_length + (1 if request.samples else 0)
        if wanted > self.config.context:
            raise RequestTooLong(
                f"request {request.id}: the prompt has {request.prompt_length} tokens and the model's context is"
                f" {self.config.context}; shorten the prompt to at most {self.config.context - 1} tokens"
            )
        # The last token is never computed, so it needs no room.
        fits = self.memory.total * self.memory.page_size
        if request.prompt_length > fits:
            raise RequestTooLong(
                f"request {request.id}: the prompt has {request.prompt_length} tokens and the KV cache holds {fits};"
                " shorten the prompt, or give the engine a larger cache"
            )
        request.limit = min(request.prompt_length + request.max_new_tokens, self.config.context, fits + 1)
        self._requests[request.id] = request
        self._stalled = False
        self._admission.add(request)

    def abort(self, request_id: int) -> bool:
        """End a request now, whatever it is doing; False if it is not alive.

        Its memory is free at once, or once the steps in flight that write to it are committed.
        """
        request = self._requests.get(request_id)
        if request is None:
            return False
        self._end(request, Finish("abort"))
        return True

    def proceed(self, request_id: int, rewrite: Rewrite | None = None) -> Request | None:
        """A request that waited may choose tokens from now on; `rewrite` is what it begins with.

        Returns the request if it is finished by that.
        """
        request = self._requests.get(request_id)
        if request is None or not request.waits:
            return None
        request.waits = False
        self._stalled = False
        finish = self._rewrite(request, rewrite) if rewrite is not None else None
        if finish is not None:
            self._end(request, finish)
        return request if finish is not None else None

    @property
    def has_work(self) -> bool:
        """Whether there is something to plan. Not while every request waits to be told to proceed."""
        return bool(self._requests) and not self._stalled

    def stats(self) -> SchedulerStats:
        memory = self.memory
        return SchedulerStats(
            waiting=len(self._admission),
            running=len(self._running),
            total_pages=memory.total,
            free_pages=memory.free,
            cached_pages=memory.cached,
            in_use_pages=memory.in_use,
            steps=self._steps,
            computed_tokens=self._computed_tokens,
            cached_tokens=self._cached_tokens,
            recomputed_tokens=memory.tree.regrets.pages * memory.page_size,
            admissions=self._admissions,
            retractions=self._retractions,
            finished=self._finished,
            aborted=self._aborted,
            failed=self._failed,
        )

    # ---- planning

    def plan(self) -> Plan | None:
        """The next step, or None if there is nothing to do now, or nothing before the last plan is committed."""
        if len(self._flights) > self.config.overlap:
            raise AssertionError("the last plan has not been committed")
        try:
            chunks = self._chunks()
        except _RoomIsInFlight:
            return None
        if not chunks:
            if not self._flights:
                waiting = any(request.waits for request in self._requests.values())
                assert waiting or not self._requests, "requests are left, but none of them can go on"
                self._stalled = waiting
            return None
        self._steps += 1
        plan = Plan(self._steps, tuple(chunks))
        self._flights.add(plan)
        return plan

    def _chunks(self) -> list[Chunk]:
        retractions = self._retractions
        chunks = self._decode_chunks()
        budget = self._budget - len(chunks)
        budget = self._prefill_chunks(chunks, budget)
        if self._retractions == retractions:
            self._admit(chunks, budget)
        else:  # room was short, so nobody comes in; and who was retracted late in planning may have had a chunk
            chunks = [chunk for chunk in chunks if chunk.request.state is RequestState.RUNNING]
        return chunks

    def _reach(self, request: Request) -> tuple[int, int]:
        """How many of the request's tokens are computed, and how many it has, once all that is in flight has landed.

        Equal where it will have ended by then.
        """
        chunk, length = self._flights.ahead(request), len(request.tokens)
        if chunk is None:
            return request.computed, length
        if not chunk.samples:
            return chunk.stop, length
        if not request.samples or length + 1 >= request.limit:
            return length, length
        return length, length + 1

    def _decode_chunks(self) -> list[Chunk]:
        """One token for each request that has only its newest left to compute."""
        chunks: list[Chunk] = []
        page_size = self.memory.page_size
        running = self._running
        index = 0
        while index < len(running):  # retraction takes from the end
            request = running[index]
            index += 1
            computed, stop = self._reach(request)
            if stop - computed != 1 or request.waits:
                continue
            lease = request.lease
            assert lease is not None
            if len(lease.pages) * page_size < stop and not self._make_room(request, stop):
                self._retract(request)
            else:
                chunks.append(Chunk(request, computed, 1, lease.pages, True, computed >= len(request.tokens)))
        return chunks

    def _prefill_chunks(self, chunks: list[Chunk], budget: int) -> int:
        """Go on with the prefills under way, the most senior first; returns what is left of the budget."""
        index = 0
        while index < len(self._running) and budget > 0:
            request = self._running[index]
            index += 1
            computed, length = self._reach(request)
            if length - computed > 1:
                budget -= self._prefill_chunk(request, chunks, budget)
        return budget

    def _prefill_chunk(self, request: Request, chunks: list[Chunk], budget: int) -> int:
        """Add as long a chunk as budget and memory allow; returns its length, which may be 0 unless most senior."""
        lease = request.lease
        assert lease is not None
        memory = self.memory
        computed, known = self._reach(request)
        if request is self._running[0]:
            self._make_room(request, computed + 1)
        within = (len(lease.pages) + memory.room) * memory.page_size - computed
        length = min(known - computed - (1 if request.waits else 0), budget, within)
        if length <= 0:
            return 0
        stop = computed + length
        had_room = memory.extend(lease, stop)
        assert had_room
        chunks.append(Chunk(request, computed, length, lease.pages, stop == known))
        return length

    def _make_room(self, request: Request, tokens: int) -> bool:
        """Give a running request pages for `tokens` tokens, at the cost of its juniors; False: it is the junior."""
        lease = request.lease
        assert lease is not None
        while not self.memory.extend(lease, tokens):
            if self._flights:
                raise _RoomIsInFlight
            victim = self._running[-1]
            if victim is not request:
                self._retract(victim)
            elif len(self._running) > 1:
                return False
            else:  # alone, and `add` saw to it that it fits alone: only pins can be in the way
                broken = self.memory.break_oldest_pin()
                assert broken, "a request that fits the memory found no room in it"
        return True

    def _retract(self, request: Request) -> None:
        """Back to the queue, to its old place in it; its full pages stay cached for as long as nobody needs them."""
        assert not self._flights, "a request is retracted only while nothing is in flight"
        self._running.remove(request)
        self._release(request)
        request.state = RequestState.WAITING
        request.retractions += 1
        self._retractions += 1
        self._admission.put_back(request)

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        """Let waiting requests in, while there are slots, budget and memory."""
        door, running = self._admission, self._running
        slots = min(self.config.max_running, self._budget) - len(running)
        if budget <= 0 or slots <= 0 or not door.open(running, [*self._flights.chunks(), *chunks]):
            return
        while budget > 0 and slots > 0:
            request = door.next(running)
            if request is None:
                return
            self._start(request)
            slots -= 1
            used = self._prefill_chunk(request, chunks, budget)
            budget -= used
            door.note_admitted(request, chunks[-1] if used else None)

    def _start(self, request: Request) -> None:
        self._admission.remove(request)
        self._admissions += 1
        request.lease = self.memory.claim(request.tokens, request.namespace, request.match_limit)
        request.computed = len(request.lease.pages) * self.memory.page_size
        request.state = RequestState.RUNNING
        insort(self._running, request, key=lambda running: running.seniority)
        if request.admitted_at is None:
            request.admitted_at = self._clock.now()
            request.cached_tokens = request.computed
            self._cached_tokens += request.computed

    # ---- committing

    def live(self, plan: Plan) -> Mapping[int, Chunk]:
        """By request id, the chunks of a plan in flight that still count: those of requests that have not ended, and
        whose tokens are those that were planned. They lack `samples` where the next token has become known."""
        return self._flights.live(plan)

    def commit(self, plan: Plan, result: StepResult) -> Sequence[Request]:
        """Take over what the step produced; returns the requests that it finished, failed ones included.

        What is not live any more is passed over. If the run as a whole failed, pass a result with an error for every
        request of the plan.
        """
        ended: list[Request] = []
        for chunk in list(self._flights.land(plan).values()):
            request = chunk.request
            if request.state is not RequestState.RUNNING:
                continue
            finish = self._advance(request, chunk, result)
            if finish is not None:
                self._end(request, finish)
                ended.append(request)
        self._budget = min(self.config.token_budget, self._budget + 1)
        self.memory.check_counts()
        return ended

    def withdraw(self, plan: Plan, error: Exception) -> Sequence[Request]:
        """The device had no memory to run the plan, the only one in flight: plan half as many tokens from now on.

        The most junior requests are retracted for it; the budget grows again by a token a step. A request that was
        alone with a single token ends with the error; it is returned.
        """
        self._flights.withdraw(plan)
        assert not self._flights, "the plan before must be committed first"
        alone = [chunk.request for chunk in plan.chunks if chunk.request.state is RequestState.RUNNING]
        if plan.tokens == 1:
            for request in alone:
                self._end(request, Finish("error", error))
            return alone
        self._budget = plan.tokens // 2
        while len(self._running) > self._budget:
            self._retract(self._running[-1])
        return ()

    def _advance(self, request: Request, chunk: Chunk, result: StepResult) -> Finish | None:
        error = result.errors.get(request.id)
        if error is not None:
            return Finish("error", error)
        self._computed_tokens += chunk.length
        request.computed = stop = chunk.start + chunk.length
        lease = request.lease
        assert lease is not None
        if stop // self.memory.page_size > lease.shared:
            self.memory.publish(lease, request.tokens, stop)
        if not chunk.samples:
            return None
        if not request.samples:
            return Finish("length")
        return self._take_tokens(request, result.tokens.get(request.id, ()))

    def _take_tokens(self, request: Request, tokens: Sequence[int]) -> Finish | None:
        new_tokens = list(tokens[: request.limit - len(request.tokens)])
        if not new_tokens:
            return Finish("error", RequestFailed(f"the executor chose no token for request {request.id}"))
        if request.first_token_at is None:
            request.first_token_at = self._clock.now()
        request.recompute_from = None
        request.tokens += new_tokens
        request.output += new_tokens
        try:
            verdict = request.stopper.accept(request, new_tokens)
        except Exception as error:  # a callback of this one request
            return Finish("error", error)
        if isinstance(verdict, Rewrite):
            return self._rewrite(request, verdict)
        self._flights.revised(request, len(request.tokens))
        if verdict is None and len(request.tokens) >= request.limit:
            return Finish("length")
        return verdict

    def _rewrite(self, request: Request, rewrite: Rewrite) -> Finish | None:
        """Give the request the output that the rewrite says; its KV is kept up to the first token that differs."""
        agreed = request.rewritten(rewrite)
        length = len(request.tokens)
        if rewrite.judged and agreed < length:
            agreed -= 1
            request.recompute_from = max(0, agreed)
        if request.lease is not None:  # one token at least is left to compute: its logits are needed
            left = min(agreed, length - 1)
            if request.computed > left:
                request.computed = self.memory.rewind(request.lease, left)
        self._flights.revised(request, agreed)
        if rewrite.finish is None and length >= request.limit:
            return Finish("length")
        return rewrite.finish

    def _end(self, request: Request, finish: Finish) -> None:
        if request.state is RequestState.RUNNING:
            self._running.remove(request)
            self._release(request)
        else:
            self._admission.remove(request)
        del self._requests[request.id]
        self._stalled = False
        request.state = RequestState.FINISHED
        request.finish = finish
        request.finished_at = self._clock.now()
        if finish.reason == "abort":
            self._aborted += 1
        elif finish.reason == "error":
            self._failed += 1
        else:
            self._finished += 1
            if request.samples:
                self._admission.lengths.observe(len(request.output))

    def _release(self, request: Request) -> None:
        assert request.lease is not None
        self._flights.leave(request, request.lease)
        request.lease = None
        request.computed = 0
