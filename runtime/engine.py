"""The engine: a model, its KV memory and its loop behind one object that any thread may use."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, overload

from ..errors import BatchFailed, InvalidRequest
from .cache.memory import KVMemory
from .clock import SystemClock
from .grammar_desk import GrammarDesk
from .hold import Hold
from .intake import Intake, Prompt, is_one, resolved
from .loading import LoadedModel, load_model
from .loop import EngineLoop
from .options import EngineOptions
from .overlap import engine_loop, overlaps
from .progress import bar
from .results import Delta, Generation, Score
from .sampling.params import SamplingParams
from .sampling.sampler import Sampler
from .scheduling.config import SchedulerConfig
from .scheduling.scheduler import Scheduler
from .scoring import ScoreBatch, Scoring, branches
from .stats import EngineStats
from .stream import Stream
from .text.chat import render_chat
from .text.token_boundary import append_text
from .text.tokenizer import Tokenizer

Errors = Literal["raise", "return"]


class Engine:
    """Runs one model. `generate` and `score` block, `stream` iterates, each with an async twin.

        engine = Engine()                      # the embedded SmolLM2-135M-Instruct
        engine.generate("The capital of France is", max_tokens=8, temperature=0).text

    `model` is "smollm2", a Hugging Face directory, a .gguf file, or a hub id. Options are EngineOptions' fields.
    All methods may be called from any thread. An error stays inside its request. Close the engine, or use `with`.
    """

    def __init__(self, model: str | Path = "smollm2", **options: Any) -> None:
        self.options = EngineOptions.of(options)
        self._model: LoadedModel = load_model(model, self.options)
        self.tokenizer = self._model.tokenizer
        self.config = self._model.config
        memory = KVMemory(self._model.pages, self.options.page_size, self.options.eviction)
        clock = SystemClock()
        scheduler = Scheduler(
            memory,
            SchedulerConfig(
                context=self._model.context_length,
                token_budget=self._model.step_tokens,
                max_running=self.options.max_running,
                policy=self.options.policy,
                overlap=overlaps(self._model.compute, self.options),
            ),
            clock,
        )
        sampler = Sampler(
            self.config.vocab_size,
            text_of=_speller(self.tokenizer),
            eos_tokens=self.tokenizer.eos_ids,
            mask_rows=self._model.compute.mask,
        )
        self._loop = engine_loop(self._model, scheduler, sampler, self.options)
        self._intake = Intake(self._model, sampler, self._loop, clock, self.options)
        self._finalizer = weakref.finalize(self, _close, self._loop, self._intake.desk)

    def __repr__(self) -> str:
        return f"<ramify.Engine {self._model.summary}>"

    # -- text ------------------------------------------------------------------------------------------------------

    @overload
    def generate(
        self, prompts: str, params: SamplingParams | None = ..., *, errors: Errors = ..., **sampling: Any
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompts: Sequence[int] | Sequence[str] | Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = ...,
        *,
        errors: Errors = ...,
        **sampling: Any,
    ) -> Any: ...
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        errors: Errors = "raise",
        **sampling: Any,
    ) -> Any:
        """Continue one prompt, or many at once; blocks until all have ended.

        One prompt gives a Generation (a list of them when n > 1), many give a list in their order. `params`, or
        keyword arguments with SamplingParams' names, say how; a list of params has one for each prompt. When some
        requests of many fail, the others are finished first; then BatchFailed is raised, which holds all results
        (errors="return": a failed one is a Generation with its error and finish_reason "error").
        """
        single = is_one(prompts)
        batches = self._start(cast("list[Prompt]", [prompts] if single else list(prompts)), params, sampling)
        streams = list(itertools.chain.from_iterable(batches))
        self._collect(streams)
        return _arrange(batches, single, errors)

    async def agenerate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        errors: Errors = "raise",
        **sampling: Any,
    ) -> Any:
        """`generate` for asyncio: cancelling the task aborts its requests."""
        single = is_one(prompts)
        batches = self._start(cast("list[Prompt]", [prompts] if single else list(prompts)), params, sampling)
        streams = list(itertools.chain.from_iterable(batches))
        await asyncio.gather(*streams, return_exceptions=True)
        return _arrange(batches, single, errors)

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        on_delta: Callable[[Delta], object] | None = None,
        **sampling: Any,
    ) -> Stream:
        """Start one request and return its Stream at once: iterate it (`for` or `async for`), or take its result.

        `on_delta` is called on the engine's thread with each delta: keep it short; what it raises fails this request.
        """
        wanted = resolved(params, sampling)
        if wanted.n != 1:
            raise InvalidRequest(f"n={wanted.n}: a stream is one answer; call stream() n times, they share the prompt")
        return self._intake.start([prompt], [wanted], on_delta, deltas=True)[0][0]

    def extend(self, before: Generation | Stream, addition: Prompt, **sampling: Any) -> Stream:
        """Go on from a finished answer: its tokens, then `addition` (text or ids), then new ones.

        Nothing is sent or computed again while the answer's KV is cached. Where added text meets the answer, the
        last tokens are encoded together with it, so that the ids are those of the whole text.
        """
        generation = before.result() if isinstance(before, Stream) else before
        tokens = [*generation.prompt_token_ids, *generation.token_ids]
        return self.stream(
            append_text(self.tokenizer, tokens, addition) if isinstance(addition, str) else [*tokens, *addition],
            **sampling,
        )

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation in the model's own chat format, ready to be answered.

        What users write stays text: control tokens in a message's content do not act.
        """
        return render_chat(self.tokenizer, messages)

    # -- numbers ---------------------------------------------------------------------------------------------------

    @overload
    def score(  # type: ignore[overload-overlap]  # a str is a sequence of str too, but is taken as one prompt
        self, prompt: str | Sequence[int], continuations: Sequence[Prompt]
    ) -> list[Score]: ...
    @overload
    def score(
        self, prompt: Sequence[str] | Sequence[Sequence[int]], continuations: Sequence[Sequence[Prompt]]
    ) -> list[list[Score]]: ...
    def score(self, prompt: Any, continuations: Any) -> Any:
        """Log-probabilities of many continuations of one prompt, in one batch over one shared prefix.

        A list of prompts takes a list of continuations for each, and all are scored together. A text continuation is
        encoded with its prompt, and scored from the first token where the two differ from the prompt alone.
        """
        single = is_one(prompt)
        prompts = [prompt] if single else list(prompt)
        groups = [continuations] if single else list(continuations)
        if len(prompts) != len(groups):
            raise InvalidRequest(
                f"{len(prompts)} prompts with {len(groups)} lists of continuations: give one list each"
            )
        plans = [branches(self._intake, one, group) for one, group in zip(prompts, groups, strict=True)]
        batch = ScoreBatch(list(itertools.chain.from_iterable(plans)))
        streams = self._collect(self._intake.submit(batch.tickets(self._intake.ticket)))
        scores = iter(batch.scores([stream.result() for stream in streams]))
        nested = [[next(scores) for _ in plan] for plan in plans]
        return nested[0] if single else nested

    async def ascore(self, prompt: Any, continuations: Any) -> Any:
        """`score` for asyncio."""
        return await asyncio.to_thread(self.score, prompt, continuations)

    # -- for programs: nothing here blocks -------------------------------------------------------------------------

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        on_done: Callable[[Stream], object],
        on_delta: Callable[[Delta], object] | None = None,
        **sampling: Any,
    ) -> Stream:
        """Start one request; `on_done(stream)` is called on the engine's thread when it has ended, also by an error.

        What a callback submits is planned in the very next step. Callbacks must be short; what `on_done` raises is
        logged and changes nothing. Deltas are made only for an `on_delta`.
        """
        wanted = resolved(params, sampling)
        if wanted.n != 1:
            raise InvalidRequest(f"n={wanted.n}: submit() is one answer; submit_many() takes n")
        return self.submit_many([prompt], wanted, on_done=on_done, on_delta=on_delta)[0]

    def submit_many(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        on_done: Callable[[Stream], object],
        on_delta: Callable[[Delta], object] | None = None,
        **sampling: Any,
    ) -> list[Stream]:
        """`submit` for a fork's children: all are admitted together, and what they share is computed once.

        A prompt with n=3 gives three streams, next to each other. The callbacks serve all the streams; a delta's
        `index` tells those of one prompt apart.
        """
        deltas = on_delta is not None
        batches = self._intake.start(prompts, _each(prompts, params, sampling), on_delta, deltas, on_done)
        return list(itertools.chain.from_iterable(batches))

    def submit_score(
        self,
        prompt: Prompt,
        continuations: Sequence[Prompt],
        on_done: Callable[[Scoring], object],
        *,
        priority: int = 0,
    ) -> Scoring:
        """`score` that does not block: `on_done` is called once with the handle it returns, on the engine's thread.

        Raises InvalidRequest for a prompt or a continuation that cannot be encoded; everything later is in the handle.
        """
        return Scoring(self._intake, branches(self._intake, prompt, continuations), on_done, priority)

    def hold(self, tokens: Sequence[int], *, next_use: float = 1.0, cache_salt: str | None = None) -> Hold:
        """Keep what is cached of these tokens for a program that comes back to it in so many of its steps."""
        return Hold(self._loop, list(tokens), cache_salt, next_use, self.options.holds)

    # -- control ---------------------------------------------------------------------------------------------------

    def abort(self, stream: Stream) -> None:
        """Stop one request (the same as stream.abort()): what it holds is freed within a step."""
        stream.abort()

    def stats(self) -> EngineStats:
        """What the engine has done and holds now."""
        return self._loop.stats(self._model.summary)

    def flush_cache(self) -> int:
        """Forget every cached prefix that no running request uses; returns the number of pages freed."""
        return self._loop.call(self._loop.scheduler.memory.flush).result()

    def check(self) -> None:
        """Verify the books of the KV memory in full; raises if a page is lost or counted twice (a defect of ours)."""
        self._loop.call(self._loop.scheduler.memory.check).result()

    def close(self) -> None:
        """Stop and give the memory back. Requests in flight end with EngineClosed. May be called more than once."""
        self._finalizer()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _start(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        sampling: Mapping[str, Any],
    ) -> list[list[Stream]]:
        return self._intake.start(prompts, _each(prompts, params, sampling))

    def _collect(self, streams: list[Stream]) -> list[Stream]:
        """Wait for all; when the wait is interrupted (Ctrl-C), abort them all."""
        try:
            with bar("generating", len(streams), self.options.progress if len(streams) > 32 else False) as tick:
                for stream in streams:
                    stream.wait()
                    tick(1)
        except BaseException:
            for stream in streams:
                stream.abort()
            raise
        return streams


def _each(
    prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None, sampling: Mapping[str, Any]
) -> list[SamplingParams]:
    """One params for each prompt, from one for all, one for each, or none."""
    if params is None or isinstance(params, SamplingParams):
        return [resolved(params, sampling)] * len(prompts)
    return [resolved(one, sampling) for one in params]


def _close(loop: EngineLoop, desk: GrammarDesk) -> None:
    loop.close()
    desk.close()


def _speller(tokenizer: Tokenizer) -> Callable[[int], str]:
    """Spells one token for log-probabilities; holds the tokenizer, not the engine."""
    return lambda token: tokenizer.token_bytes(token).decode("utf-8", errors="replace")


def _arrange(batches: list[list[Stream]], single: bool, errors: Errors) -> Any:
    """The finished streams' results in the shape of the question, or the error that it has earned."""
    failed = [stream.error for stream in itertools.chain.from_iterable(batches) if stream.error is not None]
    if failed and errors == "raise" and single and len(batches[0]) == 1:
        raise failed[0]
    results = [[_outcome(stream) for stream in batch] for batch in batches]
    if failed and errors == "raise":
        everything = [one for batch in results for one in batch]
        raise BatchFailed(
            f"{len(failed)} of {len(everything)} requests failed, the others are in this error's `generations`; "
            f"the first: {failed[0]}",
            everything,
        ) from failed[0]
    flat = [batch if len(batch) > 1 else batch[0] for batch in results]
    return flat[0] if single else flat


def _outcome(stream: Stream) -> Generation:
    if stream.error is None:
        return stream.result()
    return Generation(text="", token_ids=(), finish_reason="error", error=stream.error)
