"""How calls to a backend and their answers are written as JSON, and by what a call is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ... import errors
from ...errors import BackendError
from ..nodes import Media
from ..sampling import Constraint
from .base import GenerateCall, OptionScore, Outcome, ScoreCall, ScoreOutcome

TAIL = 80  # characters of a prompt that are kept for messages
_IRRELEVANT = ("timeout", "retries")  # of sampling: they do not change what is answered


class History:
    """What a stream says, as a hash that does not depend on how the text was cut into pieces."""

    __slots__ = ("_hash", "tail")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.tail = ""

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:32]

    def add(self, text: str) -> None:
        self._hash.update(text.encode(errors="surrogatepass"))
        self.tail = (self.tail + text)[-TAIL:]

    def mark(self, what: str) -> None:
        """Something that is no text; a byte that is in no UTF-8 keeps it apart from text."""
        self._hash.update(b"\xff" + what.encode(errors="surrogatepass") + b"\xff")
        self.tail = (self.tail + f" [{what}] ")[-TAIL:]

    def fork(self) -> History:
        other = History()
        other._hash, other.tail = self._hash.copy(), self.tail
        return other


def generate_settings(call: GenerateCall) -> dict[str, Any]:
    """What of a generation's settings its answer depends on."""
    said = {key: value for key, value in asdict(call.sampling).items() if value is not None and key not in _IRRELEVANT}
    settings: dict[str, Any] = {"sampling": said}
    if call.constraint is not None:
        settings["constraint"] = _constraint(call.constraint)
    if call.tools:
        settings["tools"] = [getattr(tool, "__name__", None) or plain(tool) for tool in call.tools]
    plain_settings: dict[str, Any] = json.loads(json.dumps(settings, default=plain, sort_keys=True))
    return plain_settings


def score_settings(call: ScoreCall) -> dict[str, Any]:
    """What a score's answer depends on."""
    return {"options": list(call.options), "alone": call.alone}


def media_mark(media: Media) -> str:
    """Stands for an image or a video in a history: its content where it is bytes, its path or address else."""
    source = media.source
    if isinstance(source, bytes | bytearray):
        source = hashlib.sha256(source).hexdigest()[:16]
    return f"{media.kind} {source!s:.300} {dict(media.options)}"


def call_key(kind: str, prompt: str, settings: Mapping[str, Any]) -> str:
    """By which a call is found: the digest of what was said, and the settings."""
    return f"{kind} {prompt} {json.dumps(settings, sort_keys=True, default=plain)}"


def differences(asked: Mapping[str, Any], known: Mapping[str, Any], where: str = "") -> list[str]:
    """What distinguishes two calls' settings, in words."""
    found: list[str] = []
    for name in sorted({*asked, *known}):
        left, right = asked.get(name), known.get(name)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{where}{name}.")
        else:
            found.append(f"{where}{name} is {left!r:.60}, recorded was {right!r:.60}")
    return found


def write_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    if outcome.error is not None:
        return {"error": write_error(outcome.error)}
    entry: dict[str, Any] = {"texts": list(outcome.texts), "metas": [dict(meta) for meta in outcome.metas]}
    if outcome.tool_calls:
        entry["tool_calls"] = [list(call) for call in outcome.tool_calls]
    return entry


def read_outcome(entry: Mapping[str, Any]) -> Outcome:
    """The outcome that was written so. Raises KeyError or TypeError for what is none."""
    return Outcome(
        texts=tuple(entry["texts"]),
        metas=tuple(entry["metas"]),
        tool_calls=tuple(tuple(call) for call in entry.get("tool_calls", ())),
    )


def write_scores(outcome: ScoreOutcome) -> dict[str, Any]:
    """Scores as JSON."""
    if outcome.error is not None:
        return {"error": write_error(outcome.error)}
    rows = [[list(row.token_ids), list(row.logprobs), list(row.alone)] for row in outcome.scores]
    return {"scores": rows, "usage": dict(outcome.usage)}


def read_scores(entry: Mapping[str, Any]) -> ScoreOutcome:
    """The scores that were written so."""
    rows = tuple(OptionScore(tuple(ids), tuple(logprobs), tuple(alone)) for ids, logprobs, alone in entry["scores"])
    return ScoreOutcome(rows, dict(entry.get("usage", {})))


def write_error(error: Exception) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}


def read_error(entry: Mapping[str, Any]) -> Exception:
    """One of ours by its name; anything else becomes a BackendError that names it."""
    name, message = str(entry.get("type")), str(entry.get("message"))
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, errors.RamifyError):
        try:
            return found(message)
        except TypeError:  # it wants more than a message
            pass
    return BackendError(f"recorded {name}: {message}")


def plain(value: object) -> Any:
    """For json.dumps: numbers of numpy are numbers, anything else is described."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    return f"<{type(value).__name__}>"


def _constraint(constraint: Constraint) -> dict[str, Any]:
    source = constraint.source
    return {"kind": constraint.kind, "source": getattr(source, "key", source)}
