"""Every error that ramify raises on purpose, as one tree.

RamifyError
├── InvalidRequest        the call cannot be served as written (also a ValueError)
│   └── RequestTooLong    it can never fit the context or the cache
├── RequestFailed         something broke while serving this request, and only this request
├── BatchFailed           some requests of a batch failed; it holds the results of all
├── ModelError            the model cannot be used
│   ├── ModelNotFound     no such model, or it is not here and cannot be fetched
│   ├── BrokenModelFile   a truncated, mislabelled or hostile weight, config or tokenizer file
│   └── UnsupportedModel  a sound file of a kind that ramify does not run
└── EngineClosed          the engine was closed before the call

A message says what was wrong, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class RamifyError(Exception):
    """The root: catch this to catch all of ours."""


class InvalidRequest(RamifyError, ValueError):
    """The call cannot be served as written; its message names the parameter and what is allowed."""


class RequestTooLong(InvalidRequest):
    """The request can never fit the model's context or the KV cache, even alone."""


class RequestFailed(RamifyError):
    """Something broke while this one request was served; the cause is chained, other requests go on."""


class BatchFailed(RamifyError):
    """Some requests of a batch failed; `generations` holds every result, those that failed with their errors."""

    def __init__(self, message: str, generations: Sequence[Any]) -> None:
        super().__init__(message)
        self.generations = tuple(generations)


class ModelError(RamifyError):
    """The model cannot be used."""


class ModelNotFound(ModelError):
    """The model is not where it was looked for, and could not be fetched."""


class BrokenModelFile(ModelError):
    """A file of the model is truncated, mislabelled or hostile."""


class UnsupportedModel(ModelError):
    """The file is sound, but of a kind that ramify does not run; the message lists the kinds it does."""


class EngineClosed(RamifyError):
    """The engine was closed; make a new one."""
