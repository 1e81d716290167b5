"""The compiled grammar core: where its sources are, what its functions take, and that it is loaded once."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from ...native_build import CoreUnavailable, NativeCore

__all__ = ["DONE", "NEED", "REFUSED", "TOO_LARGE", "CoreUnavailable", "Window", "grammar_core"]

SOURCES = Path(__file__).parent / "cpu"
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread")
REFUSED, DONE, NEED, TOO_LARGE = 0, 1, -1, -2


class Window(ctypes.Structure):
    """What the core shows of a matcher without a call: see matcher.h."""

    row: int  # the address of the mask when it is known already, else 0
    accepting: int
    ended: int
    steps: int
    _fields_ = (("row", c_uint64), ("accepting", c_uint32), ("ended", c_uint32), ("steps", c_uint64))


SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "needed": (c_uint64, [c_void_p, c_uint64]),
    "needed_text": (c_uint64, [c_void_p, c_uint64]),
    "complaint": (c_char_p, []),
    "core_new": (c_void_p, [c_char_p, c_void_p, c_uint32, c_uint32, c_void_p, c_uint32, c_uint64]),
    "core_free": (None, [c_void_p]),
    "grammar_new": (c_void_p, [c_void_p, c_uint32, POINTER(c_uint64)]),
    "grammar_free": (None, [c_void_p]),
    "grammar_bytes": (c_uint64, [c_void_p]),
    "expressions": (c_int, [c_void_p, c_void_p, c_uint64, c_void_p]),
    "define": (c_int, [c_void_p, c_void_p, c_uint64]),
    "tell": (c_int, [c_void_p, c_char_p, c_uint64, c_char_p, c_uint64, c_uint32]),
    "warm": (c_int, [c_void_p, c_uint32]),
    "matcher_new": (c_int, [c_void_p, POINTER(c_void_p)]),
    "matcher_copy": (c_int, [c_void_p, POINTER(c_void_p)]),
    "matcher_free": (None, [c_void_p]),
    "matcher_window": (c_void_p, [c_void_p]),
    "accept": (c_int, [c_void_p, c_uint32]),
    "accept_bytes": (c_int, [c_void_p, c_char_p, c_uint64]),
    "rollback": (c_int, [c_void_p, c_uint64]),
    "mask": (c_int, [c_void_p]),
    "allowed": (c_int, [c_void_p, c_uint32, c_void_p, POINTER(c_uint32)]),
    "forced": (c_int, [c_void_p, c_void_p, c_uint64, POINTER(c_uint64)]),
    "finished": (c_int, [c_void_p]),
    "fill": (c_int, [c_void_p, c_uint64, c_void_p, c_uint64, POINTER(c_uint64)]),
    "apply": (None, [c_void_p, c_uint64, c_uint64, c_void_p, c_uint64]),
}


@cache
def grammar_core() -> ctypes.CDLL:
    """The core, loaded; compiled first where there is no good copy from an earlier time. Raises CoreUnavailable."""
    library = NativeCore("the grammar core", SOURCES, FLAGS).load()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, f"ramify_{name}")
        function.restype = result
        function.argtypes = arguments
    return library
