"""A graph as rows of words, ready to be drawn: what an item is called, what it says, and which branches look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..nodes import Gen, Media, RoleEnd, RoleStart, ScopeEnd, ScopeStart, Select, SetVariable
from .graph import Append, Fork, Graph, Item, Join
from .references import Attribute, Composed, Format, Method, Reference, Represent
from .references import Item as ItemOf

MOST_ALIKE = 2  # branches of one shape that are drawn; of the others it is said how many there are


@dataclass(frozen=True, slots=True)
class Words:
    """An item in words."""

    kind: str  # text, gen, select, role, end, set, scope, media, fork, join
    title: str  # a variable's name, a role
    detail: str  # a text's beginning, a constraint


@dataclass(frozen=True, slots=True)
class Branch:
    """One drawn branch of a fork, and how many more look like it."""

    stream: int
    index: int  # among its siblings, from 0
    more: int = 0  # siblings of the same shape behind it that are not drawn


def words(item: Item) -> Words:
    """An item in words."""
    match item:
        case Append(text):
            return Words("text", "", said(text))
        case Gen(name):
            return Words("gen", name or "", constraint_words(item))
        case Select(name, choices):
            return Words("select", name or "", _listed([said(choice) for choice in choices]))
        case RoleStart(role):
            return Words("role", role, "")
        case RoleEnd(role):
            return Words("end", role, "")
        case SetVariable(name, value):
            return Words("set", name, said(value))
        case ScopeStart(name):
            return Words("scope", name, "")
        case ScopeEnd(name):
            return Words("end", name, "")
        case Media(kind):
            return Words("media", kind, "")
        case Fork(children):
            return Words("fork", "", f"{len(children)} branches" if len(children) != 1 else "1 branch")
        case Join(children, mode, names):
            what = "texts" if mode == "concate_and_append" else _listed(list(names)) or "nothing new"
            return Words("join", "", f"{what} of {len(children)}")


def constraint_words(gen: Gen) -> str:
    """What a gen's text must obey, in a word or two."""
    if gen.type is not None:
        return getattr(gen.type, "__name__", str(gen.type))
    if gen.tools:
        return "tools: " + _listed([getattr(tool, "__name__", "?") for tool in gen.tools])
    if gen.constraint is not None:
        source = gen.constraint.source
        return f"{gen.constraint.kind} {said(source)}" if isinstance(source, str | Composed) else gen.constraint.kind
    return ""


def branch_words(graph: Graph, branch: Branch) -> str:
    """What a drawn branch is called."""
    if graph.streams[branch.stream].shared:
        return "shared beginning"
    return f"branch {branch.index + 1}" + (f" and {branch.more} more like it" if branch.more else "")


def said(thing: Any) -> str:
    """A text with holes on one line, the holes as {names}."""
    if isinstance(thing, str):
        return thing.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    if isinstance(thing, Composed):
        return "".join(said(part) for part in thing.parts)
    if isinstance(thing, Reference):
        return "{" + reference_words(thing) + "}"
    if isinstance(thing, list | tuple):
        return "[" + _listed([said(element) for element in thing]) + "]"
    return str(thing)


def reference_words(reference: Reference) -> str:
    """A reference as the user might have written it."""
    source = reference.source
    text = said(source) if isinstance(source, Composed) else str(source)
    for operation in reference.operations:
        match operation:
            case ItemOf(key):
                text += f"[{key.start or ''}:{key.stop or ''}]" if isinstance(key, slice) else f"[{key!r}]"
            case Attribute(name):
                text += f".{name}"
            case Method(name):
                text += f".{name}()"
            case Represent():
                text += "!r"
            case Format(specification):
                text += f":{specification}" if specification else ""
    return text


def short(text: str, most: int) -> str:
    """A text cut to at most so many characters, its beginning and its end kept."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (most - 1 - head) :]


def branches(graph: Graph, fork: Fork) -> list[Branch]:
    """The branches of a fork that are worth drawing: of each shape, the first few."""
    by_shape: dict[Any, list[tuple[int, int]]] = {}
    for index, child in enumerate(fork.children):
        by_shape.setdefault(_shape(graph, child), []).append((index, child))
    drawn = []
    for alike in by_shape.values():
        count = len(alike) if len(alike) <= MOST_ALIKE + 1 else MOST_ALIKE
        drawn += [Branch(child, index) for index, child in alike[:count]]
        drawn[-1] = Branch(drawn[-1].stream, drawn[-1].index, len(alike) - count)
    return sorted(drawn, key=lambda branch: branch.index)


def _shape(graph: Graph, stream: int) -> Any:
    shape: list[Any] = []
    for item in graph.streams[stream].items:
        word = words(item)
        inner = tuple(_shape(graph, child) for child in item.children) if isinstance(item, Fork) else ()
        shape.append((word.kind, word.title, inner))
    return tuple(shape)


def _listed(names: list[str], most: int = 4) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
