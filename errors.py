"""Every error that ramify raises on purpose, as one tree.

RamifyError
├── InvalidRequest        the call cannot be served as written (also a ValueError)
│   ├── RequestTooLong    it can never fit the context or the cache
│   └── GrammarError      a pattern, schema or grammar that cannot be enforced; `path` says where in it
│       └── GrammarTooLarge   compiling it takes more time, memory or states than is allowed
├── RequestFailed         something broke while serving this request, and only this request
├── BatchFailed           some requests of a batch failed; it holds the results of all
├── ProgramError          a program did what the language does not allow; says program, line and variable
├── BackendError          what runs the program refused, failed or cannot do this
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


class GrammarError(InvalidRequest):
    """A pattern, schema or grammar that cannot be enforced token by token, or is not one.

    `path` is where in the source: a JSON pointer in a schema, line and column in a grammar, an offset in a pattern.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class GrammarTooLarge(GrammarError):
    """Compiling or running this grammar takes more time, memory or states than is allowed."""


class RequestFailed(RamifyError):
    """Something broke while this one request was served; the cause is chained, other requests go on."""


class BatchFailed(RamifyError):
    """Some requests of a batch failed; `generations` holds every result, those that failed with their errors."""

    def __init__(self, message: str, generations: Sequence[Any]) -> None:
        super().__init__(message)
        self.generations = tuple(generations)


class ProgramError(RamifyError):
    """A program did what the language does not allow, or read what is not there."""


class BackendError(RamifyError):
    """What runs the program refused a call, failed in it, or cannot do what was asked."""


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
