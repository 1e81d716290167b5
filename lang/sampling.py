"""How a gen samples and what its text must obey, as the language's users say it: None means "as the program says"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings under SGLang's names. A gen's own (None where it says nothing) are laid over the program's."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    n: int | None = None
    stop: str | tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    stop_regex: str | tuple[str, ...] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    return_logprob: bool | None = None
    logprob_start_len: int | None = None
    top_logprobs_num: int | None = None
    return_text_in_logprobs: bool | None = None
    timeout: float | None = None  # seconds for one call
    retries: int | None = None  # of a call that failed for a reason that may pass

    def over(self, defaults: Sampling) -> Sampling:
        """These settings, and the defaults' where these say nothing."""
        return Sampling(
            *[mine if mine is not None else theirs for mine, theirs in zip(_all(self), _all(defaults), strict=True)]
        )


_all = attrgetter(*(f.name for f in fields(Sampling)))


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a generated text must obey. `source` is the pattern, the schema (a dict or JSON text), the grammar's text,
    or a compiled ramify.grammars.Grammar."""

    kind: Literal["regex", "json_schema", "ebnf", "choices", "structural_tag", "grammar"]
    source: Any
