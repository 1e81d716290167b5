"""The compiled CPU core: where its sources are, how it is compiled, and that it is loaded once."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from ..native_build import CoreUnavailable, NativeCore, find_compiler

__all__ = ["FLAGS", "SOURCES", "CoreUnavailable", "core_library", "find_compiler"]

SOURCES = Path(__file__).parent / "cpu"
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-Wno-psabi")


@cache
def core_library() -> ctypes.CDLL:
    """The core, loaded; compiled first where there is no good copy from an earlier time. Raises CoreUnavailable."""
    return NativeCore("the CPU core", SOURCES, FLAGS).load()
