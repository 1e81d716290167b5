"""Programs on an engine in this process: streams go on by their token ids, and nothing is sent or encoded twice."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import BackendError, InvalidRequest, RequestFailed
from ...runtime.engine import Engine
from ...runtime.hold import Hold
from ...runtime.results import Delta as EngineDelta
from ...runtime.results import Generation
from ...runtime.stream import Stream
from ...runtime.text.tokenizer import Tokenizer
from ..chat import ChatFormat
from ..chat_templates import of_tokenizer
from .base import (
    Backend,
    BackendStream,
    Cancel,
    Delta,
    Done,
    GenerateCall,
    Outcome,
    ScoreCall,
    Scored,
    ScoreOutcome,
)
from .engine_meta import generation_meta, usage_of
from .engine_params import params_of
from .engine_score import score_options
from .once import Once
from .runtime_options import engine_options
from .token_stream import TokenStream, Written, written


class EngineBackend(Backend):
    """Runs programs on a `ramify.Engine`, which it does not close."""

    name = "engine"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.chat: ChatFormat = of_tokenizer(engine.tokenizer)

    def stream(self) -> EngineStream:
        return EngineStream(self.engine, TokenStream(self.engine.tokenizer, self.chat))

    def count_tokens(self, text: str) -> int:
        return len(self.engine.tokenizer.encode(text, add_special_tokens=False))

    def flush_cache(self) -> None:
        self.engine.flush_cache()

    def server_info(self) -> Mapping[str, Any]:
        return {"backend": self.name, "model_path": self.engine.tokenizer.name, "stats": str(self.engine.stats())}


class Runtime(EngineBackend):
    """An engine of its own: `Runtime(model_path=...)`, with SGLang's methods and EngineOptions' fields.

    Of SGLang's options, those with a counterpart are taken; those about servers and GPUs are ignored with a warning.
    """

    name = "runtime"

    def __init__(self, model_path: str | Path = "smollm2", **options: Any) -> None:
        super().__init__(Engine(model_path, **engine_options(options)))

    @property
    def endpoint(self) -> Runtime:
        """The backend itself; SGLang's Runtime has its server here."""
        return self

    def get_tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    def generate(self, prompt: Any, sampling_params: Mapping[str, Any] | None = None) -> Any:
        """One prompt or many, blocking; sampling parameters under SGLang's names or the engine's."""
        given = dict(sampling_params or {})
        for theirs, ours in (("max_new_tokens", "max_tokens"), ("min_new_tokens", "min_tokens")):
            if theirs in given:
                given[ours] = given.pop(theirs)
        return self.engine.generate(prompt, **given)

    def shutdown(self) -> None:
        """Close the engine. May be called more than once."""
        self.engine.close()

    close = shutdown

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class EngineStream(BackendStream):
    """A stream by its token ids. Callbacks come on the engine's thread."""

    def __init__(self, engine: Engine, said: TokenStream) -> None:
        self._engine = engine
        self._said = said
        self._computed = 0  # so many of the tokens were run through the model
        self._hold: Hold | None = None
        self._held = 0  # so many of the tokens were there when they were held

    def append(self, text: str) -> None:
        self._said.append(text)

    def start_role(self, role: str) -> str:
        return self._said.start_role(role)

    def end_role(self, role: str) -> str:
        return self._said.end_role(role)

    def tokens(self) -> tuple[int, ...]:
        """The ids of everything said so far."""
        return self._said.settle(answer=False)

    def generate(self, call: GenerateCall, done: Done, delta: Delta | None = None) -> Cancel:
        try:
            params = params_of(call)
            tokens = self._prompt()
            generation = _Generation(self, call, len(tokens), params.n, done)
            listen = _Listener(self._engine.tokenizer, delta) if delta is not None and call.stream else None
            streams = self._engine.submit_many([tokens], params, on_done=generation.one_ended, on_delta=listen)
        except Exception as error:
            done(Outcome(error=error))
            return _nothing_to_cancel

        def cancel() -> None:
            for stream in streams:
                stream.abort()

        return cancel

    def score(self, call: ScoreCall, done: Scored) -> Cancel:
        try:
            return score_options(self._engine, self._prompt(), call, done)
        except Exception as error:
            done(ScoreOutcome(error=error))
            return _nothing_to_cancel

    def _prompt(self) -> tuple[int, ...]:
        """The ids that an answer comes after. Raises InvalidRequest where there are none."""
        tokens = self._said.settle(answer=True)
        if not tokens:
            raise InvalidRequest(
                "the prompt is empty, and a model needs at least one token to go on from: append a text first"
            )
        return tokens

    def fork(self, count: int) -> list[BackendStream]:
        self._said.settle(answer=False)
        children = []
        for _ in range(count):
            child = EngineStream(self._engine, self._said.fork())
            child._computed = self._computed
            children.append(child)
        return list(children)

    def warm(self, done: Done) -> Cancel | None:
        try:
            tokens = self._worth_computing(self._said)
            if tokens is None:
                return None

            def ended(stream: Stream) -> None:
                if stream.error is None:
                    self._computed = max(self._computed, len(tokens))
                    done(Outcome(texts=("",), metas=({"usage": usage_of(stream.result().usage)},)))
                else:
                    done(Outcome(error=stream.error))

            return self._engine.submit(tokens, on_done=ended, max_tokens=0).abort
        except Exception as error:
            done(Outcome(error=error))
            return _nothing_to_cancel

    def ahead(self) -> None:
        with contextlib.suppress(Exception):  # it is only work done early: who needs it meets the error
            tokens = self._worth_computing(self._said)
            if tokens is not None:
                self._engine.submit(tokens, on_done=_ignore, max_tokens=0)

    def hint(self, *, next_use: float | None = None) -> None:
        tokens = self._said.settle(answer=False)
        if next_use is None or not tokens:
            self._release()
        elif self._hold is not None and self._held == len(tokens):
            self._hold.next_use = next_use
        else:
            before, self._held = self._hold, len(tokens)
            self._hold = self._engine.hold(tokens, next_use=next_use)
            if before is not None:  # only now, so that what both hold is never without a holder
                before.release()

    def close(self) -> None:
        self._release()

    def cannot(self, what: str) -> Exception:
        return BackendError(
            f"the embedded engine cannot {what}; a server may: sgl.RuntimeEndpoint(url), sgl.OpenAI(...)"
        )

    def _release(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # also when it was not made to the end
            self._release()

    # -- on the engine's thread -----------------------------------------------------------------------------------

    def written(self, answer: Generation) -> Written:
        """Its text and its tokens, brought together."""
        return written(self._engine.tokenizer, answer.token_ids, answer.text)

    def spell(self, token: int) -> str:
        """One token's text."""
        return self._engine.tokenizer.token_bytes(token).decode(errors="replace")

    def wrote(self, said: Written, computed: int, call: GenerateCall) -> None:
        """The stream goes on from what was generated; the constants that follow are prefilled in the next step."""
        self._said.wrote(said)
        self._computed = max(self._computed, computed)

    def _worth_computing(self, said: TokenStream) -> tuple[int, ...] | None:
        """What can be computed before it is needed: whole pages, for only these are shared. None: no new one."""
        tokens, page = said.settle(answer=False), self._engine.options.page_size
        whole = len(tokens) // page
        return tokens[: whole * page] if whole > self._computed // page else None


class _Generation:
    """Gathers n answers to one call; the first is what the stream goes on from."""

    def __init__(self, stream: EngineStream, call: GenerateCall, prompt_tokens: int, count: int, done: Done) -> None:
        self._stream = stream
        self._call = call
        self._prompt_tokens = prompt_tokens
        self._left = count
        self._once = Once(done)
        self._answers: list[Generation] = []

    def one_ended(self, ended: Stream) -> None:
        """Called for each answer, on the engine's thread. The first error ends the call."""
        if ended.error is not None:
            self._once(Outcome(error=ended.error))
            return
        self._answers.append(ended.result())
        self._left -= 1
        if self._left == 0 and self._once.claim():
            self._once.tell(self._outcome())

    def _outcome(self) -> Outcome:
        try:
            answers = sorted(self._answers, key=lambda answer: answer.index)
            said = [self._stream.written(answer) for answer in answers]
            sampling = self._call.sampling
            metas = tuple(generation_meta(answer, sampling, self._stream.spell) for answer in answers)
            computed = self._prompt_tokens + max(0, len(said[0].kept) - 1)
            self._stream.wrote(said[0], computed, self._call)
            return Outcome(texts=tuple(one.text for one in said), metas=metas)
        except Exception as error:  # a defect of ours ends this call, and hangs nobody
            failed = RequestFailed(f"this generation could not be reported: {type(error).__name__}: {error}")
            failed.__cause__ = error
            return Outcome(error=failed)


class _Listener:
    """Passes on the first answer's text as it comes, without half a character at the end."""

    def __init__(self, tokenizer: Tokenizer, delta: Delta) -> None:
        self._tokenizer = tokenizer
        self._delta = delta
        self._tokens: list[int] = []
        self._characters = 0
        self._text: list[str] = []

    def __call__(self, came: EngineDelta) -> None:
        if came.index:
            return
        text = came.text
        self._tokens += came.token_ids
        self._text.append(text)
        if came.finish_reason is not None and text.endswith("\ufffd"):
            whole = "".join(self._text)
            text = text[: len(text) - (len(whole) - len(written(self._tokenizer, self._tokens, whole).text))]
        if text:
            self._delta(text)


def _nothing_to_cancel() -> None:
    """The call has ended."""


def _ignore(_: object) -> None:
    """Nobody waits for it."""
