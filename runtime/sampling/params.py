"""What a caller may ask of one generation: sampling, stopping and reporting, each value checked when it is made."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from ...errors import InvalidRequest
from ..text.stop_regex import compile_stop_regex
from .constraint import KINDS, MAX_SOURCE_CHARACTERS, Constraint, constraint_of

MAX_TOKENS = 2**31 - 1  # any count of tokens
MAX_TOKEN_ID = 2**31 - 1  # the vocabulary's own size is checked where it is known, in Sampler.row
MAX_SAMPLES = 128
MAX_LOGPROBS = 64
MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1_000
MAX_STOP_TOKENS = 1_024
MAX_BIASES = 4_096
MAX_SALT_CHARACTERS = 256
GREEDY_BELOW = 1e-5  # a smaller temperature would overflow float32; the choice is the best token either way


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose tokens, when to stop and what to report; wrong values raise InvalidRequest and name themselves.

    A row of logits is treated in this order: mask, logit_bias, min_tokens, repetition, frequency and presence
    penalties (as in vLLM), temperature, top_k, top_p (of the mass that top_k left), min_p (as in transformers; vLLM
    takes min_p before top_k). Ties are broken in favour of the smaller token id.

    At most one of regex, json_schema, ebnf, choices, structural_tag and grammar: then the text obeys it whenever
    finish_reason is "stop" and no stop string cut it. Such a text ends by itself when nothing may follow it; before
    that, the end-of-sequence token is allowed exactly where the text is complete (with ignore_eos: never).
    """

    max_tokens: int | None = (
        None  # None: to the end of the context; 0: prefill only, returns the next-token distribution
    )
    min_tokens: int = 0  # neither end-of-sequence nor any stop takes effect before so many tokens
    temperature: float = 1.0  # below 1e-5: greedy
    top_p: float = 1.0
    top_k: int = -1  # 0 or -1: off
    min_p: float = 0.0  # of the best token's probability
    repetition_penalty: float = 1.0  # divides positive and multiplies negative logits of tokens in prompt and output
    frequency_penalty: float = 0.0  # subtracted once for each occurrence in the output
    presence_penalty: float = 0.0  # subtracted once for each token that occurs in the output
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)  # -inf bans a token
    seed: int | None = None  # None: a random one
    n: int = 1
    stop: str | Sequence[str] = ()  # becomes a tuple
    stop_token_ids: Sequence[int] = ()  # becomes a tuple
    stop_regex: str | None = None  # no look-around, anchors or back-references; at most 500 states
    include_stop: bool = False  # keep the stop string in the text
    ignore_eos: bool = False
    logprobs: int | None = None  # None: off; k: for each output token its own and the k best; 0: its own only
    prompt_logprobs: int | None = None  # the same for the tokens of the prompt
    prompt_logprobs_start: int = 0  # position of the first prompt token that is reported
    priority: int = 0  # smaller goes first
    cache_salt: str | None = None  # requests share cached prefixes only with requests of the same salt
    skip_special_tokens: bool = True
    regex: str | None = None  # the whole text matches it, as in re.fullmatch
    json_schema: Mapping[str, Any] | str | bool | None = field(default=None, hash=False)
    ebnf: str | None = None
    choices: Sequence[str] | None = None  # becomes a tuple
    structural_tag: Mapping[str, Any] | str | None = field(default=None, hash=False)
    grammar: Any = None  # a ramify.grammars.Grammar, compiled before
    whitespace: str | None = None  # of a json_schema: "fixed" (the default), "compact", "flexible" or "free"
    grammar_options: Mapping[str, Any] | None = field(default=None, hash=False)  # others of the constraint's own
    continues: str | None = None  # what the constraint has seen already: an answer that was cut goes on behind it
    jump_forward: bool | None = None  # append text that a constraint leaves no choice about; None: as the engine does

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen; what is normalized here is normalized once
        put(self, "max_tokens", optional_integer("max_tokens", self.max_tokens, 0, MAX_TOKENS))
        put(self, "min_tokens", integer("min_tokens", self.min_tokens, 0, MAX_TOKENS))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}.")
        put(self, "temperature", number("temperature", self.temperature, 0.0, 100.0))
        put(self, "top_p", number("top_p", self.top_p, 0.0, 1.0))
        if self.top_p == 0.0:
            raise InvalidRequest("top_p=0 keeps no token: give 0 < top_p <= 1, or temperature=0 for the best token.")
        put(self, "top_k", integer("top_k", self.top_k, -1, MAX_TOKEN_ID))
        put(self, "min_p", number("min_p", self.min_p, 0.0, 1.0))
        put(self, "repetition_penalty", number("repetition_penalty", self.repetition_penalty, 0.01, 100.0))
        put(self, "frequency_penalty", number("frequency_penalty", self.frequency_penalty, -2.0, 2.0))
        put(self, "presence_penalty", number("presence_penalty", self.presence_penalty, -2.0, 2.0))
        put(self, "logit_bias", biases(self.logit_bias))
        put(self, "seed", optional_integer("seed", self.seed, -(2**63), 2**63 - 1))
        put(self, "n", integer("n", self.n, 1, MAX_SAMPLES))
        put(self, "stop", stop_strings(self.stop))
        put(self, "stop_token_ids", stop_tokens(self.stop_token_ids))
        if self.stop_regex is not None:
            text("stop_regex", self.stop_regex, MAX_STOP_CHARACTERS)
            compile_stop_regex(self.stop_regex)  # raises InvalidRequest; the compiled form is remembered
        put(self, "logprobs", optional_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS))
        put(self, "prompt_logprobs", optional_integer("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS))
        put(self, "prompt_logprobs_start", integer("prompt_logprobs_start", self.prompt_logprobs_start, 0, MAX_TOKENS))
        put(self, "priority", integer("priority", self.priority, -(2**31), 2**31 - 1))
        if self.cache_salt is not None:
            text("cache_salt", self.cache_salt, MAX_SALT_CHARACTERS)
        for name in ("include_stop", "ignore_eos", "skip_special_tokens"):
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidRequest(f"{name}={shown(value)} is not allowed: give True or False.")
        if self.jump_forward is not None and not isinstance(self.jump_forward, bool):
            raise InvalidRequest(f"jump_forward={shown(self.jump_forward)} is not allowed: give True, False or None.")
        put(self, "continues", self.continues or None)
        if self.continues is not None:
            text("continues", self.continues, MAX_SOURCE_CHARACTERS)
        constraint = self.constraint
        if self.continues is not None and constraint is None:
            raise InvalidRequest("continues= needs the constraint that the text before this answer obeys.")
        if self.choices is not None and constraint is not None:
            put(self, "choices", constraint.source)

    @property
    def constraint(self) -> Constraint | None:
        """What the text must obey, if anything."""
        return constraint_of({kind: getattr(self, kind) for kind in KINDS}, self.grammar_options, self.whitespace)

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken."""
        return self.temperature < GREEDY_BELOW

    def replace(self, **changes: Any) -> SamplingParams:
        """A copy with some values changed, checked again; unknown names raise InvalidRequest."""
        if unknown := changes.keys() - {one.name for one in dataclasses.fields(self)}:
            raise InvalidRequest(f"unknown sampling parameter {sorted(unknown)[0]!r}.")
        return dataclasses.replace(self, **changes)


def shown(value: object) -> str:
    """The value for an error message, cut short: it may be a megabyte of somebody's JSON."""
    if isinstance(value, int) and value.bit_length() > 256:
        return "<a very large integer>"  # printing one is quadratic, and refused by Python beyond 4,300 digits
    if isinstance(value, (str, bytes)):
        return repr(value if len(value) <= 40 else value[:40]) + ("..." if len(value) > 40 else "")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"<{type(value).__name__}>"


def integer(name: str, value: object, low: int, high: int) -> int:
    """The value as an int within [low, high]; numpy integers are integers, booleans and floats are not."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InvalidRequest(f"{name}={shown(value)} is not allowed: give an integer from {low} to {high}.")
    return int(value)


def optional_integer(name: str, value: object, low: int, high: int) -> int | None:
    """None, or the value as an int within [low, high]."""
    return None if value is None else integer(name, value, low, high)


def number(name: str, value: object, low: float, high: float) -> float:
    """The value as a float within [low, high]; NaN is in no range, and booleans are not numbers."""
    converted = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond any float
            converted = float(value)
    if not low <= converted <= high:
        raise InvalidRequest(f"{name}={shown(value)} is not allowed: give a number from {low:g} to {high:g}.")
    return converted


def text(name: str, value: object, longest: int) -> str:
    """The value, a string of 1 to `longest` characters that are all encodable."""
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise InvalidRequest(f"{name}={shown(value)} is not allowed: give a string of 1 to {longest:,} characters.")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{name} holds half of a surrogate pair, which no text can contain.")
    return value


def biases(value: object) -> Mapping[int, float]:
    """Token id to bias, a copy; keys may be decimal strings, as JSON has no other keys."""
    if not isinstance(value, Mapping) or len(value) > MAX_BIASES:
        raise InvalidRequest(
            f"logit_bias={shown(value)} is not allowed: give a mapping of at most {MAX_BIASES:,} token ids to numbers."
        )
    checked: dict[int, float] = {}
    for key, bias in value.items():
        if isinstance(key, str) and len(key) <= 10 and key.isascii() and key.isdecimal():
            key = int(key)
        token = integer("logit_bias token", key, 0, MAX_TOKEN_ID)
        banned = isinstance(bias, float) and bias == -math.inf
        checked[token] = -math.inf if banned else number(f"logit_bias[{token}]", bias, -100.0, 100.0)
    return checked


def stop_strings(value: object) -> tuple[str, ...]:
    """One stop string or several, as a tuple without repetitions."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)) or len(value) > MAX_STOPS:
        raise InvalidRequest(f"stop={shown(value)} is not allowed: give a string or a list of at most {MAX_STOPS}.")
    return tuple(dict.fromkeys(text("stop", one, MAX_STOP_CHARACTERS) for one in value))


def stop_tokens(value: object) -> tuple[int, ...]:
    """Token ids as a tuple without repetitions."""
    if not isinstance(value, Collection) or isinstance(value, (str, bytes, Mapping)):
        raise InvalidRequest(f"stop_token_ids={shown(value)} is not allowed: give a list of token ids.")
    if len(value) > MAX_STOP_TOKENS:
        raise InvalidRequest(f"stop_token_ids holds {len(value):,} ids: give at most {MAX_STOP_TOKENS:,}.")
    return tuple(dict.fromkeys(integer("stop_token_ids", one, 0, MAX_TOKEN_ID) for one in value))
