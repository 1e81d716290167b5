"""Watches a body while it is traced: only building texts may happen, so that nothing else is frozen or done too early.

A template is right when the body, run with other values, would do the same. Symbols refuse to be read; this guard
refuses the rest: calls into C that look at a text with a hole in it (`re.search`), that give something else each time
(`random`, `time`) or that have an effect (`print`, `open`, sockets). It sees every such call before it happens, through
sys.setprofile, in the tracing thread only.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType, GeneratorType
from typing import Any

from ..nodes import Place
from ..state import ProgramState
from .lookouts import looks, sees_a_hole
from .symbols import EDGES, Holes, LookedAt, is_symbol

_LOOKS = "the body looks at a text with a value in it that is not there yet"
_OWN = __name__.split(".")[0]
# Modules that only compute: a call into them is left alone when nothing with a hole goes in.
_PURE = frozenset(
    (  # noqa: SIM905 - words read better than a column of quoted ones
        "abc bisect collections copy dataclasses datetime decimal difflib enum fractions functools heapq html "
        "inspect itertools json math numbers operator pprint re statistics string textwrap types typing "
        "unicodedata"
    ).split()
)
_BUILTINS = frozenset(
    (  # noqa: SIM905 - words read better than a column of quoted ones
        "abs all any bin callable chr delattr divmod format getattr hasattr hex isinstance issubclass iter len "
        "max min next oct ord pow repr round setattr sum vars __build_class__"
    ).split()
)
_ON_HOLES = frozenset("format join format_map __format__ __add__ __str__ __new__ __init_subclass__".split())  # noqa: SIM905
_ORDERING = frozenset("sort index count remove".split())  # noqa: SIM905
_CONTAINERS = (str, list, tuple, dict, set, frozenset, int, float, bool, bytes, slice, range, GeneratorType)


@contextmanager
def guarded(holes: Holes) -> Iterator[None]:
    """While inside, a call that a template cannot hold raises LookedAt in the body instead of happening."""
    profile: Any = sys.getprofile()
    trace = sys.gettrace()
    collecting = gc.isenabled()
    gc.disable()  # what others left to the collector must not be taken for the body's doing
    watch = _Watch(holes)
    sys.setprofile(watch)
    sys.settrace(_LineWatch(holes, watch))
    try:
        yield
    finally:
        sys.settrace(trace)
        sys.setprofile(profile if callable(profile) else None)
        if hasattr(profile, "enable"):  # cProfile's is no function
            profile.enable()
        if collecting:
            gc.enable()


class _LineWatch:
    """Sees lines before they run, and errors where they come up: what catches one would go another way with a value."""

    def __init__(self, holes: Holes, watch: _Watch) -> None:
        self._holes = holes
        self._watch = watch

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            if (
                self._watch.trusts
                or _ours(frame)
                or self._watch.is_harmless(frame)
                or frame.f_code.co_name == "__del__"
                or _module(frame) in sys.stdlib_module_names
            ):
                return None
            frame.f_trace_lines = bool(looks(frame.f_code.co_filename))
        elif event == "line":
            if self._holes.ended is None and sees_a_hole(frame):
                self._holes.end(LookedAt(_LOOKS, place=_place(frame)))
        elif event == "exception":
            kind, error, _ = argument
            if not issubclass(kind, LookedAt | StopIteration | GeneratorExit):
                words = f"{kind.__name__}: {error}"
                hole = any(edge in words for edge in EDGES)
                reason = f"the body raises {kind.__name__ if hole else words[:200]}"
                self._holes.end(LookedAt(reason, place=_place(frame)))
        return self


class _Watch:
    def __init__(self, holes: Holes) -> None:
        self._holes = holes
        self._trusted: FrameType | None = None  # we are below this call of a pure function: nothing to watch

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_return" or event == "c_exception" or self._holes.ended is not None:
            return
        if self._trusted is not None:
            if event == "return" and frame is self._trusted:
                self._trusted = None
        elif event == "c_call":
            if not _ours(frame):
                self._check(argument)
        elif event == "call" and self.is_harmless(frame):
            self._trusted = frame

    @property
    def trusts(self) -> bool:
        """Whether we are below a call that is left alone."""
        return self._trusted is not None

    def _end(self, reason: str) -> None:
        self._holes.end(LookedAt(reason))

    def is_harmless(self, frame: FrameType) -> bool:
        """Whether a call, and all that is called below it, can be left alone."""
        if _ours(frame):
            return frame.f_code.co_name == "__del__"  # anything else may call a body, which is watched
        caller = frame.f_back
        if caller is not None and _ours(caller):  # the language's own business, unless it is a body
            body = any(isinstance(value, ProgramState) for value in frame.f_locals.values())
            return not body and caller.f_code.co_name != "__iadd__"
        return _module(frame) in _PURE and not _holes_in(list(frame.f_locals.values()))

    def _check(self, function: Any) -> None:
        owner = getattr(function, "__self__", None)
        name = function.__name__
        if isinstance(owner, type(sys)):  # a function of a module
            module = owner.__name__
            if (module == "builtins" and name in _BUILTINS) or module.lstrip("_") in _PURE - {"re"}:
                return
            self._end(f"the body calls {name}()" if module == "builtins" else f"the body calls {module}.{name}()")
        if type(owner) is str and _has_hole(owner) and name not in _ON_HOLES:
            self._end(f"the body calls .{name}() of a text with a value in it that is not there yet")
        if name in _ORDERING and _holes_in([owner]):
            self._end(f"the body calls .{name}() of a {type(owner).__name__} of values that are not there yet")
        if isinstance(owner, type) and owner.__module__ in ("builtins", "collections", "enum"):
            return
        if owner is None or not issubclass(type(owner), _CONTAINERS):
            if owner is not None and type(owner).__module__.partition(".")[0].lstrip("_") in _PURE - {"re"}:
                return
            self._end(f"the body calls {name}()" + (f" of a {type(owner).__name__}" if owner is not None else ""))


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def _ours(frame: FrameType) -> bool:
    """Whether a frame is the language's own, which does what it must whether or not it is traced."""
    return _is_own(frame.f_globals.get("__name__", ""))


@lru_cache(maxsize=1024)
def _is_own(module: str) -> bool:
    return module == _OWN or module.startswith(f"{_OWN}.")


def _module(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0].lstrip("_")


def _has_hole(text: str) -> bool:
    return any(str.__contains__(text, edge) for edge in EDGES)


def _holes_in(things: list[Any], depth: int = 4) -> bool:
    """Whether a symbol, or a text with a hole, is among things or a few levels inside them."""
    for thing in things:
        if is_symbol(thing) or (isinstance(thing, str) and _has_hole(thing)):
            return True
        if depth and isinstance(thing, list | tuple | set | frozenset) and _holes_in(list(thing), depth - 1):
            return True
        if depth and isinstance(thing, dict) and _holes_in([*thing.keys(), *thing.values()], depth - 1):
            return True
    return False
