"""What a caller gets back: immutable results that say what was made, why it ended and what it cost."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .scheduling.finish import FinishReason


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token and its natural-log probability under the model, before penalties and temperature."""

    token: int
    logprob: float
    text: str  # the token alone; bytes that are no whole character appear as U+FFFD
    rank: int | None = None  # 1 is the most probable


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The token at one position, and the most probable ones there, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The model's whole distribution over the next token, as natural-log probabilities by token id."""

    logprobs: npt.NDArray[np.float32]  # [vocabulary]

    def logprob(self, token: int) -> float:
        return float(self.logprobs[token])

    def top(self, count: int) -> tuple[tuple[int, float], ...]:
        """The `count` most probable (token, log-probability), best first, smaller ids first among equals."""
        order = np.argsort(-self.logprobs, kind="stable")[:count]
        return tuple((int(token), float(self.logprobs[token])) for token in order)

    @property
    def entropy(self) -> float:
        """In nats."""
        known = self.logprobs[np.isfinite(self.logprobs)].astype(np.float64)
        return float(-(np.exp(known) * known).sum())


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a generation read, wrote and saved."""

    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt: their keys and values were already there
    completion_tokens: int = 0
    forced_tokens: int = 0  # of the completion: dictated by a grammar or a constant, not chosen
    computed_tokens: int = 0  # run through the model, a retracted request's second run included

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.forced_tokens + other.forced_tokens,
            self.computed_tokens + other.computed_tokens,
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in seconds."""

    queued_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0
    time_to_first_token_s: float | None = None  # None: there was no token


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished answer; str() of it is its text."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_matched: str | int | None = None  # the stop string, the text that matched the regex, or the token id
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings, compare=False)
    logprobs: tuple[TokenLogprobs, ...] | None = None  # one for each of token_ids
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None  # None for the first token: nothing precedes it
    prompt_token_ids: tuple[int, ...] = field(default=(), repr=False)
    index: int = 0  # which of n
    next_token: Distribution | None = field(default=None, compare=False, repr=False)  # of a max_tokens=0 request
    error: Exception | None = field(default=None, compare=False)  # when finish_reason is "error"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """For notebooks: the text as it is, and one grey line about it."""
        usage = self.usage
        facts = f"{usage.prompt_tokens} prompt ({usage.cached_tokens} cached) + {usage.completion_tokens} tokens"
        line = f"{facts}, {self.timings.total_s:.2f} s, finished by {self.finish_reason}"
        text = html.escape(self.text)
        return f'<pre style="white-space:pre-wrap;margin:0">{text}</pre><small style="color:gray">{line}</small>'


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a stream; the texts of all deltas add up to the generation's text."""

    text: str  # may be empty: characters and possible stop strings are held back until they are certain
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None  # set on the last delta of this index
    logprobs: tuple[TokenLogprobs, ...] | None = None  # one for each of token_ids
    index: int = 0
    stop_matched: str | int | None = None
    usage: Usage | None = None  # on the last delta
    replaces: int = 0  # tokens of earlier deltas that token_ids take the place of (their text stays): see jump-forward
    error: Exception | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Score:
    """How probable one continuation is after its prompt."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # one for each token of the continuation
    total: float  # the log-probability of the whole continuation
    mean: float  # per token
