"""Checks of what people write into `gen` and `run`, with messages that name the parameter and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, SupportsFloat, SupportsIndex

from ..errors import InvalidRequest
from .sampling import Sampling

_LARGEST = 2**31 - 1
_MOST_STOPS = 100_000


Check = Callable[[str, Any], Any]  # returns the value as Python's own type


def _number(low: float, high: float, low_open: bool = False) -> Check:
    bounds = f"{'above' if low_open else 'from'} {low:g}" + ("" if high == math.inf else f" to {high:g}")

    def check(name: str, value: Any) -> Any:
        if isinstance(value, SupportsFloat) and not isinstance(value, int | float | str):
            value = float(value)  # numpy's
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidRequest(f"{name}={value!r:.60} is not allowed: it must be a finite number, {bounds}")
        if not low <= value <= high or (low_open and value == low):
            raise InvalidRequest(f"{name}={value!r:.60} is not allowed: it must be {bounds}")
        return value

    return check


def _whole(low: int, high: int = _LARGEST, also: int | None = None) -> Check:
    bounds = f"a whole number from {low:,} to {high:,}" + ("" if also is None else f", or {also}")

    def check(name: str, value: Any) -> Any:
        if isinstance(value, SupportsIndex) and not isinstance(value, bool):
            value = value.__index__()  # numpy's too
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not (low <= value <= high or value == also):
            raise InvalidRequest(f"{name}={value!r:.60} is not allowed: it must be {bounds}")
        return value

    return check


def _flag(name: str, value: Any) -> Any:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name}={value!r:.60} is not allowed: it must be True or False")
    return value


def _texts(name: str, value: Any) -> Any:
    given = (value,) if isinstance(value, str) else value
    if len(given) > _MOST_STOPS:
        raise InvalidRequest(f"{name}: {len(given):,} texts; {_MOST_STOPS:,} are the most")
    for index, text in enumerate(given):
        at = name if isinstance(value, str) else f"{name}[{index}]"
        if not isinstance(text, str):
            raise InvalidRequest(f"{at}={text!r:.60} is not allowed: it must be a text, or a list of texts")
        if not text:
            raise InvalidRequest(f"{at} is the empty text, which is everywhere: leave it out")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{at}={text!r:.60} holds half of a surrogate pair") from None
    return value


def _token_ids(name: str, value: Any) -> Any:
    return tuple(_whole(0)(f"{name}[{index}]", token) for index, token in enumerate(value))


def _bias(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name}={value!r:.60} is not allowed: it must be a dict from token ids to numbers")
    for token, bias in value.items():
        _whole(0)(f"a key of {name}", token)
        if isinstance(bias, bool) or not isinstance(bias, int | float) or math.isnan(bias) or bias == math.inf:
            raise InvalidRequest(f"{name}[{token}]={bias!r:.60} is not allowed: it must be a number, or -inf")
    return value


CHECKS: dict[str, Check] = {
    "max_new_tokens": _whole(0),
    "min_new_tokens": _whole(0),
    "n": _whole(1, 10_000),
    "stop": _texts,
    "stop_token_ids": _token_ids,
    "stop_regex": _texts,
    "temperature": _number(0, math.inf),
    "top_p": _number(0, 1, low_open=True),
    "top_k": _whole(1, also=-1),
    "min_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "repetition_penalty": _number(0, math.inf, low_open=True),
    "logit_bias": _bias,
    "ignore_eos": _flag,
    "seed": _whole(-(2**63), 2**64 - 1),
    "return_logprob": _flag,
    "logprob_start_len": _whole(0, also=-1),
    "top_logprobs_num": _whole(0, 10_000),
    "return_text_in_logprobs": _flag,
    "timeout": _number(0, math.inf, low_open=True),
    "retries": _whole(0, 1000),
}
_SPELLED = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
_LISTS = ("stop", "stop_token_ids", "stop_regex")


def sampling_of(caller: str, short: bool, given: Mapping[str, Any]) -> Sampling:
    """Checked settings. `short`: the caller says max_tokens, not max_new_tokens. Raises InvalidRequest.

    The same settings are the same object, as far as they can be remembered: programs repeat theirs.
    """
    try:
        return _remembered(caller, short, tuple(given), *given.values())
    except TypeError:  # a list or a dict among them
        return _checked(caller, short, given)


@lru_cache(4096, typed=True)  # typed: True is not 1
def _remembered(caller: str, short: bool, names: tuple[str, ...], *values: Any) -> Sampling:
    return _checked(caller, short, dict(zip(names, values, strict=True)))


def _checked(caller: str, short: bool, given: Mapping[str, Any]) -> Sampling:
    said = {}
    for name, value in given.items():
        if value is None:
            continue
        spelled = _SPELLED.get(name, name) if short else name
        if name in _LISTS and not isinstance(value, str):
            if not isinstance(value, Sequence | set | frozenset) or isinstance(value, bytes):
                raise InvalidRequest(f"{caller}: {spelled}={value!r:.60} is not allowed: it must be a list")
            value = tuple(value)
        if not symbolic(value):
            value = CHECKS[name](f"{caller}: {spelled}", value)
        said[name] = value
    return Sampling(**said)


def symbolic(value: Any) -> bool:
    """Whether a value stands for one that is not known yet, as while a program is traced: it cannot be checked."""
    return hasattr(type(value), "__ramify_symbol__")
