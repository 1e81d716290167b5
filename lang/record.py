"""A run as a record: what was appended and generated, when, at what cost; saved as JSON and read back.

    {"format": "ramify.run", "version": 1, "program": "tips", "backend": "engine", "began_at": 1790000000.0, ...,
     "streams": [{"number": 0, "parent": null, "fork_at": 0, "joined_at": null, "joined_as": null, "cancelled": false,
                  "nodes": [{"kind": "text", "text": "Q: ", ...},
                            {"kind": "gen", "name": "a", "text": "42", "value": "42", "started": 0.001, "ended": 0.2,
                             "tokens": {"prompt": 12, "cached": 8, "computed": 4, "completion": 2, "forced": 0,
                                        "speculated": 0}, ...}]}]}

Times are seconds since the run began. A child's `fork_at` and `joined_at` count nodes of its parent. Readers take any
version up to their own and ignore what they do not know; a change that they could not read gets a new number.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from .history import Entry, StreamHistory
from .nodes import Gen, Media, RoleEnd, RoleStart, ScopeEnd, ScopeStart, Select, SetVariable, Text, VariableText
from .run_context import RunContext

FORMAT, VERSION = "ramify.run", 1
_KINDS: dict[type, str] = {
    Text: "text",
    VariableText: "variable",
    Gen: "gen",
    Select: "select",
    RoleStart: "role",
    RoleEnd: "end role",
    Media: "media",
    SetVariable: "set",
    ScopeStart: "scope",
    ScopeEnd: "end scope",
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Where the tokens of one node came from.

    Of its prompt: cached or computed. Of what it wrote: dictated by a grammar or a constant (forced), proposed and
    accepted (speculated), or chosen one by one (the rest). Of a text: constant.
    """

    prompt: int = 0
    cached: int = 0
    computed: int = 0
    completion: int = 0
    forced: int = 0
    speculated: int = 0
    constant: int = 0


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node and what became of it."""

    kind: str
    text: str = ""
    name: str | None = None  # of its variable; the role that speaks
    value: Any = None  # as JSON can hold it
    started: float | None = None
    ended: float | None = None
    tokens: Tokens = field(default_factory=Tokens)
    finish_reason: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the gen said itself; a select's options
    error: str | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One stream of the run: the program's own has number 0."""

    number: int
    parent: int | None = None
    fork_at: int = 0
    joined_at: int | None = None
    joined_as: str | None = None
    cancelled: bool = False
    nodes: tuple[NodeRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A whole run. `streams` has parents before their children."""

    program: str
    backend: str
    began_at: float  # seconds since 1970
    streams: tuple[StreamRecord, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)  # sampling settings of the run
    error: str | None = None

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")

    def as_dict(self) -> dict[str, Any]:
        """It, as JSON knows it."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, given: Any) -> RunRecord:
        """The record that `as_dict` was made of. Raises InvalidRequest for anything else, saying where."""
        if not isinstance(given, Mapping) or given.get("format") != FORMAT:
            raise InvalidRequest(f'this is no record of a run: it has no "format": "{FORMAT}"')
        version = given.get("version")
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise InvalidRequest(f"the record has version {version!r}; this ramify reads versions 1 to {VERSION}")
        run: RunRecord = _read(cls, given, "run")
        known: set[int] = set()
        for stream in run.streams:
            if stream.number in known or (stream.parent is not None and stream.parent not in known):
                raise InvalidRequest(f"run.streams: stream {stream.number} comes twice, or before its parent")
            known.add(stream.number)
        return run


def load_run(path: str | Path) -> RunRecord:
    """Read a saved run. Raises InvalidRequest when the file is none."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(f"{path}: this is no record of a run: {error}") from None
    return RunRecord.from_dict(given)


def record(history: StreamHistory, context: RunContext, error: Exception | None = None) -> RunRecord:
    """What a run has done so far. Does not wait."""
    count = context.backend.count_tokens if context.backend is not None else None
    return RunRecord(
        context.program,
        context.backend.name,
        context.began_at,
        tuple(_stream(stream, context, count) for stream in history.walk()),
        {name: plain(value) for name, value in context.arguments.items()},
        _said(context.defaults),
        None if error is None else str(error),
    )


def plain(value: Any) -> Any:
    """A value as JSON can hold it; what it cannot hold, as Python writes it."""
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return repr(value)[:1000]


def _stream(history: StreamHistory, context: RunContext, count: Callable[[str], int | None] | None) -> StreamRecord:
    return StreamRecord(
        history.number,
        None if history.parent is None else history.parent.number,
        history.fork_at,
        history.joined_at,
        history.joined_as,
        history.cancelled,
        tuple(_node(entry, context, count) for entry in list(history.entries)),
    )


def _node(entry: Entry, context: RunContext, count: Callable[[str], int | None] | None) -> NodeRecord:
    node: Any = entry.node
    kind = _KINDS[type(node)]
    variable = entry.variable
    there = variable is not None and variable.ready and variable.error is None
    meta = entry.meta[0] if isinstance(entry.meta, list) and entry.meta else entry.meta
    model = kind in ("gen", "select")
    constant = count(entry.text) if count is not None and entry.text and not model else None
    return NodeRecord(
        kind,
        entry.text,
        getattr(node, "name", None) or getattr(node, "role", None),
        plain(variable.value) if variable is not None and there else None,
        None if entry.started is None else round(entry.started - context.began, 6),
        None if entry.ended is None else round(entry.ended - context.began, 6),
        _tokens(entry.usage) if model else Tokens(constant=constant or 0),
        plain((meta or {}).get("finish_reason")) if model else None,
        _settings(node),
        None if entry.error is None else str(entry.error),
        entry.place.file if entry.place else None,
        entry.place.line if entry.place else None,
    )


def _tokens(usage: Mapping[str, int]) -> Tokens:
    given = {f.name: usage.get(f"{f.name}_tokens", 0) for f in fields(Tokens) if f.name != "constant"}
    return Tokens(**given)


def _settings(node: Any) -> dict[str, Any]:
    if isinstance(node, Select):
        return {"choices": list(node.choices), "method": type(node.method).__name__}
    if not isinstance(node, Gen):
        return {}
    said = _said(node.sampling)
    if node.constraint is not None:
        said[node.constraint.kind] = plain(node.constraint.source)
    if node.type is not None:
        said["type"] = getattr(node.type, "__name__", str(node.type))
    return said


def _said(settings: Any) -> dict[str, Any]:
    return {f.name: plain(value) for f in fields(settings) if (value := getattr(settings, f.name)) is not None}


_NESTED: dict[tuple[type, str], type] = {(RunRecord, "streams"): StreamRecord, (StreamRecord, "nodes"): NodeRecord}
_EXPECTED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "Mapping[str, Any]": (Mapping,),
}


def _read(kind: Any, given: Any, where: str) -> Any:
    """A dataclass of ours out of a mapping that came from a file."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where}: expected an object, found {type(given).__name__}")
    values: dict[str, Any] = {}
    for f in fields(kind):
        if f.name not in given:
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise InvalidRequest(f"{where}.{f.name} is missing")
            continue
        value = given[f.name]
        inner = _NESTED.get((kind, f.name))
        if inner is not None:
            if not isinstance(value, list | tuple):
                raise InvalidRequest(f"{where}.{f.name}: expected a list, found {type(value).__name__}")
            value = tuple(_read(inner, one, f"{where}.{f.name}[{index}]") for index, one in enumerate(value))
        elif f.name == "tokens":
            value = _read(Tokens, value, f"{where}.tokens")
        elif (expected := _EXPECTED.get(str(f.type))) is not None and not isinstance(value, expected):
            raise InvalidRequest(f"{where}.{f.name}: expected {f.type}, found {type(value).__name__}")
        values[f.name] = value
    return kind(**values)
