"""Which machine runs a grammar: the compiled one, or the Python one where nothing can be compiled."""

from __future__ import annotations

from ..program import Program
from ..vocabulary import Vocabulary
from .machine import Machine
from .matcher import Matcher
from .native import MACHINE_BYTES, NativeMachine
from .native_core import CoreUnavailable


def machine_for(program: Program, vocabulary: Vocabulary) -> Machine | NativeMachine:
    """A machine for the program. Raises GrammarError when its language is empty."""
    try:
        return NativeMachine(program, vocabulary)
    except CoreUnavailable:
        return Machine(program, vocabulary)


def matcher_of(machine: Machine | NativeMachine) -> Matcher:
    """A matcher at the beginning of a text."""
    return machine.matcher() if isinstance(machine, NativeMachine) else Matcher(machine)


def outgrown(machine: Machine | NativeMachine) -> bool:
    """Whether new texts should begin with a fresh machine, so that memory is bounded."""
    return isinstance(machine, NativeMachine) and machine.bytes > MACHINE_BYTES
