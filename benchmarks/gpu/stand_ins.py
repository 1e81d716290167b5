"""Stand-ins for libraries that ramify needs for what is not measured here, where they are not installed.

GGUF files, grammars compiled in other processes, typed programs and greenlets: none of them takes part in a run on a
bare machine, but their libraries are imported beside what does. A stand-in can be imported; using it is an error that
names the library. greenlet's is a little more: a program's body that waits asks which greenlet it runs in, and where
there are none the answer is its thread.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any, ClassVar, NoReturn

OPTIONAL = ("gguf", "gguf.quants", "msgpack", "pydantic", "pydantic.errors", "pydantic.json_schema", "pydantic_core")


class Missing(ModuleType):
    """A library that is not here. Its names can be imported, subclassed and put into annotations, and that is all."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        library = self.__name__

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise ImportError(f"{library} is not installed, and {library}.{name} is needed")

        made = type(name, (Exception,), {"__init__": refuse, "__class_getitem__": classmethod(lambda cls, _: cls)})
        setattr(self, name, made)
        return made


def install() -> list[str]:
    """Put a stand-in where a library is missing; returns the names of those that are."""
    missing = []
    for name in OPTIONAL:
        library = name.partition(".")[0]
        if library in missing or not is_here(library):
            sys.modules[name] = Missing(name)
            missing += [library] if library not in missing else []
    if not is_here("greenlet"):
        module: Any = ModuleType("greenlet")
        module.greenlet = type("greenlet", (), {})
        module.getcurrent = threading.current_thread
        module.GreenletExit = type("GreenletExit", (BaseException,), {})
        sys.modules["greenlet"] = module
        missing.append("greenlet")
    return missing


def is_here(library: str) -> bool:
    """Whether the library itself is installed; a stand-in is not."""
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False
