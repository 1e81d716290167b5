"""A compiled grammar: what the front ends give, and what is handed to a generation."""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from .machine.choice import machine_for, matcher_of, outgrown
from .machine.machine import Machine
from .machine.matcher import Matcher
from .machine.native import NativeMachine
from .program import Program
from .vocabulary import Vocabulary


class Grammar:
    """A language that a text must belong to, compiled. Immutable to its users, and safe from many threads.

    `kind` and `source` say what it was made from ("regex" and the pattern, "json_schema" and the schema's text, ...);
    `key` is equal for equal kind, source and options, across processes. Matchers of one grammar and vocabulary share
    what they learn: states, transitions and masks.
    """

    def __init__(
        self, program: Program, kind: str = "program", source: str = "", options: Mapping[str, Any] | None = None
    ) -> None:
        self.program = program
        self.kind = kind
        self.source = source
        self.options = dict(options or {})
        self._machines: weakref.WeakKeyDictionary[Vocabulary, Machine | NativeMachine] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @cached_property
    def key(self) -> str:
        """Equal for equal kind, source and options."""
        text = json.dumps([self.kind, self.source, self.options], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def __repr__(self) -> str:
        source = self.source if len(self.source) <= 40 else self.source[:37] + "..."
        return f"<ramify.grammars.Grammar {self.kind} {source!r}>"

    def matcher(self, vocabulary: Vocabulary) -> Matcher:
        """A matcher at the beginning of a text.

        Raises GrammarError when the language is empty (nothing at all could be written), and what making definitions
        at first use raises.
        """
        with self._lock:
            machine = self._machines.get(vocabulary)
            if machine is None or outgrown(machine):
                machine = self._machines[vocabulary] = machine_for(self.program, vocabulary)
        return matcher_of(machine)
