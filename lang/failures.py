"""Errors of a run that say where in the user's program they belong: program, file, line and variable."""

from __future__ import annotations

from copy import copy

from ..errors import BackendError, GrammarError, ProgramError, RamifyError
from .nodes import Gen, Node, Place, ScopeStart, Select


class UnsetVariable(ProgramError, KeyError):
    """A variable that the program never set was read."""

    def __str__(self) -> str:
        return str(self.args[0])


class Abandoned(ProgramError):
    """The stream was dropped, cancelled or closed before this was made."""


def again(error: Exception) -> Exception:
    """The error to raise for one that is kept: a copy, so that the one that is kept never holds a caller's frames."""
    try:
        made = copy(error)
    except Exception:  # an error of the user's that cannot be copied
        return error.with_traceback(None)
    made.__cause__ = error.__cause__
    return made


def where(program: str, place: Place | None) -> str:
    """`program 'qa', qa.py:12`."""
    return f"program {program!r}" if place is None else f"program {program!r}, {place.file}:{place.line}"


def located(error: Exception, program: str, place: Place | None, node: Node | None) -> Exception:
    """The same error, of the same kind where it is one of ours, with its place in the program; its cause is chained."""
    name = node.name if isinstance(node, Gen | Select | ScopeStart) else None
    variable = f", variable {name!r}" if name else ""
    text = str(error) if isinstance(error, RamifyError) else f"{type(error).__name__}: {error}"
    message = f"{where(program, place)}{variable}: {text}"
    kind = type(error) if isinstance(error, RamifyError) else BackendError
    try:
        made: Exception = kind(message)
    except TypeError:  # an error that is made of more than a message
        made = BackendError(message)
    if isinstance(error, GrammarError) and isinstance(made, GrammarError):
        made.path = error.path
    made.__cause__ = error.__cause__ if isinstance(error, RamifyError) else error  # ours is said in full already
    return made
