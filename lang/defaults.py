"""Which backend runs a program that names none: the one that was set, else the embedded model, announced once."""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from typing import Any

from ..errors import InvalidRequest
from .backends.base import Backend

_lock = threading.Lock()
_default: Backend | None = None
_embedded: Backend | None = None
_of_engines: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def set_default_backend(backend: Any) -> None:
    """Programs that are given no backend run here from now on. None: the embedded model again."""
    global _default
    found = None if backend is None else as_backend(backend)
    with _lock:
        _default = found


def current_default() -> Backend | None:
    """The backend that was set; None: none."""
    return _default


def resolve(backend: Any = None) -> Backend:
    """The backend to use: this one, the default one, or the embedded model, which is loaded at its first use."""
    if backend is not None:
        return as_backend(backend)
    if _default is not None:
        return _default
    return _embedded_backend()


def at_hand(backend: Any = None) -> Backend | None:
    """The backend to use as far as it is there already: nothing is loaded."""
    return as_backend(backend) if backend is not None else _default or _embedded


def as_backend(value: Any) -> Backend:
    """A backend out of what people hold in hand: a backend, an engine, or what has one as its `endpoint`."""
    if isinstance(value, Backend):
        return value
    inner = getattr(value, "endpoint", None)
    if isinstance(inner, Backend):  # SGLang's Runtime has its endpoint in this attribute
        return inner
    if isinstance(value, str):
        raise InvalidRequest(
            f"backend={value!r} is a text; give a backend: ramify.Engine({value!r}), or ramify.RuntimeEndpoint(url)"
        )
    if hasattr(value, "generate") and hasattr(value, "score"):
        return _of_engine(value)
    raise InvalidRequest(
        f"backend={value!r:.80} is no backend; use ramify.Engine(), ramify.Runtime(model_path=...), "
        "ramify.RuntimeEndpoint(url), ramify.OpenAI(model), or ramify.Mock([...]) for tests"
    )


def _of_engine(engine: Any) -> Backend:
    """The backend of an engine: one for as long as anybody uses it."""
    found = _of_engines.get(id(engine))
    if found is None or found.engine is not engine:
        found = _of_engines[id(engine)] = importlib.import_module(".backends.engine", __package__).EngineBackend(engine)
    return found  # type: ignore[no-any-return]


def flush_cache(backend: Any = None) -> bool:
    """Forget the cached prefixes of the backend, or of the default one. Whether there was one."""
    found = as_backend(backend) if backend is not None else _default or _embedded
    if found is None:
        return False
    found.flush_cache()
    return True


def get_server_info(backend: Any = None) -> Any:
    """What is known about the backend's model and server, or the default one's; None: there is none yet."""
    found = as_backend(backend) if backend is not None else _default or _embedded
    return None if found is None else found.server_info()


def _embedded_backend() -> Backend:
    global _embedded
    with _lock:
        if _embedded is None:
            sys.stderr.write(
                "ramify: no backend is set, so programs run on the small embedded model, in this process; "
                "ramify.set_default_backend(...) chooses another\n"
            )
            engine = importlib.import_module("..runtime.engine", __package__).Engine()
            _embedded = _of_engine(engine)
        return _embedded
