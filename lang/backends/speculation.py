"""API speculation: one call goes on past its stop, and what follows uses the surplus as far as it matches.

    prompt: "Name:"   asked without a stop:   " Ada\nBorn: 1815\nDied: 1852"
    gen("name", stop="\n")  ->  " Ada"        surplus: "\nBorn: 1815\nDied: 1852"
    + "\nBorn:"             ->  matches       surplus: " 1815\nDied: 1852"
    + gen("born", stop="\n") -> " 1815"       no second call

The text is what separate calls give of a server that gives the same text for the same prompt. So the surplus is used
only where that can be known: same settings, nothing that looks at tokens (penalties, minimum lengths, other stops, log-
probabilities), no seeded sampling, and never more tokens than a gen may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..sampling import Sampling
from .base import GenerateCall
from .meta import cut, stopped

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # with any other value, a text cannot be cut out of a longer one
    "min_new_tokens": (None, 0),
    "n": (None, 1),
    "stop_token_ids": (None, ()),
    "stop_regex": (None, ()),
    "frequency_penalty": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "repetition_penalty": (None, 1, 1.0),
    "ignore_eos": (None, False),
    "return_logprob": (None, False),
    "top_logprobs_num": (None, 0),
}


@dataclass(frozen=True, slots=True)
class Surplus:
    """What a server said beyond what was asked for."""

    text: str
    ended: bool  # the model ended by itself behind it
    most_tokens: int | None  # it is at most so many; None: unknown
    density: float  # tokens a character, about
    settings: Sampling  # it was sampled with these

    def after(self, constant: str) -> Surplus | None:
        """What is left behind a constant; None where the two disagree."""
        if not self.text.startswith(constant):
            return None
        return replace(self, text=self.text[len(constant) :])


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a surplus that is the whole answer to a gen."""

    text: str
    finish_reason: Mapping[str, Any]
    rest: Surplus | None


def can_speculate(call: GenerateCall) -> bool:
    """Whether cutting the answer out of a longer one gives what the call alone would give."""
    sampling = call.sampling
    seeded = sampling.seed is not None and sampling.temperature != 0
    plain = all(getattr(sampling, name) in neutral for name, neutral in _NEUTRAL.items())
    return plain and not seeded and call.constraint is None and not call.tools and sampling.max_new_tokens != 0


def widened(sampling: Sampling, tokens: int) -> Sampling:
    """The call that is made instead: no stop, `tokens` at most."""
    return replace(sampling, stop=None, max_new_tokens=tokens)


def settings_of(sampling: Sampling) -> Sampling:
    """What of the settings decides how text is sampled, but not where it ends."""
    return replace(sampling, stop=None, max_new_tokens=None, timeout=None, retries=None)


def cut_out(surplus: Surplus, sampling: Sampling, asked: int | None = None) -> Part | None:
    """The answer to a gen, out of a surplus; None where it cannot be known, and the gen needs a call of its own.

    `asked`: the surplus is the answer to a call for so many tokens, made where this gen stands.
    """
    if settings_of(sampling) != surplus.settings:
        return None
    found = first_stop(surplus.text, sampling.stop)
    if found is not None:
        at, stop = found
        text = surplus.text[:at]
        rest = replace(surplus, text=surplus.text[at:])
        in_time = _fits(text + stop, surplus, sampling.max_new_tokens)  # else the limit may come before the stop
        return Part(text, stopped(stop), rest) if in_time else None
    if surplus.ended:
        fits = _fits(surplus.text, surplus, sampling.max_new_tokens)
        return Part(surplus.text, stopped(), None) if fits else None
    if asked is not None and asked == sampling.max_new_tokens:
        return Part(surplus.text, cut(asked), None)
    return None


def first_stop(text: str, stop: str | tuple[str, ...] | None) -> tuple[int, str] | None:
    """Where the stop that is complete first begins, and which it is."""
    stops = (stop,) if isinstance(stop, str) else stop or ()
    found = [(at + len(one), at, one) for one in stops if one and (at := text.find(one)) >= 0]
    return min(found)[1:] if found else None


def _fits(text: str, surplus: Surplus, most: int | None) -> bool:
    """Whether the text is certainly no longer than `most` tokens: a token is at least one byte."""
    if most is None or (surplus.most_tokens is not None and surplus.most_tokens <= most):
        return True
    return len(text.encode(errors="replace")) <= most
