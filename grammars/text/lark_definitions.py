"""The definitions of a Lark grammar and of what it imports, each under its module; lark reads the texts."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from lark.load_grammar import _parse_grammar
from lark.tree import Tree

from ...errors import GrammarError

MAX_COUNT = 2**32 - 2
MAX_DEFINITIONS = 20_000
OWN_FILES = ("common", "unicode", "lark", "python")  # the grammars that come with lark


class Name(NamedTuple):
    """A rule or terminal of a module; the grammar itself is the module ""."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(slots=True)
class Definition:
    """A rule or terminal: any of these trees, each out of a module, whose names it uses."""

    params: tuple[str, ...] = ()
    ways: list[tuple[str, Any]] = field(default_factory=list)


class Definitions:
    """Everything that a grammar defines and imports, by name; and the trees of what it ignores."""

    def __init__(self, text: str) -> None:
        self._found: dict[Name, Definition] = {}
        self._elsewhere: dict[Name, Name] = {}  # what is imported, and under which name
        self._loaded = {""}
        self.ignored: list[Any] = []
        self._load(_parsed(text), "")

    def find(self, name: Name) -> Name:
        """Where this name is defined. Raises GrammarError when it is not."""
        name = self._elsewhere.get(name, name)
        if name not in self._found:
            raise GrammarError(f"{str(name)!r} is used but not defined; defined are {', '.join(self._some())}")
        return name

    def of(self, name: Name) -> Definition:
        """The definition of a name that `find` gave. Raises GrammarError for one that is only declared."""
        definition = self._found[name]
        if not definition.ways:
            raise GrammarError(f"{str(name)!r} is declared, but what it looks like is not said")
        return definition

    def _some(self) -> list[str]:
        return [name.name for name in self._found if not name.module][:10] or ["none"]

    def _load(self, tree: Any, module: str) -> None:
        for statement in tree.children:
            if statement.data == "import":
                self._import(statement, module)
        for statement in tree.children:
            kind = statement.data
            if kind in ("rule", "term"):
                self._define(statement, module, kind)
            elif kind in ("override", "extend"):
                (inner,) = statement.children
                self._define(inner, module, kind)
            elif kind == "declare":
                for symbol in statement.children:
                    self._found[Name(module, symbol.name)] = Definition()
            elif kind == "ignore" and not module:
                self.ignored.append(statement.children[0])

    def _define(self, tree: Any, module: str, how: str) -> None:
        if len(self._found) >= MAX_DEFINITIONS:
            raise GrammarError(f"a grammar of more than {MAX_DEFINITIONS:,} definitions")
        if tree.data == "rule":
            _, token, params, _, body = tree.children
        else:
            token, params, body = tree.children[0], None, tree.children[-1]
        name = Name(module, str(token))
        known = name in self._found or name in self._elsewhere
        if how in ("rule", "term") and known:
            raise GrammarError(f"{token.value!r} is defined twice", f"line {token.line}, column {token.column}")
        if how in ("override", "extend") and not known:
            raise GrammarError(f"%{how} of {token.value!r}, which is not defined before")
        given = tuple(str(param) for param in params.children) if params is not None else ()
        earlier = self._found[self.find(name)].ways if how == "extend" else []
        self._elsewhere.pop(name, None)
        self._found[name] = Definition(given, [*earlier, (module, body)])

    def _import(self, statement: Any, module: str) -> None:
        path, *names = statement.children
        parts = [str(part) for part in path.children]
        if names and isinstance(names[0], Tree):
            aliases = {str(name): str(name) for name in names[0].children}
        else:
            wanted = parts.pop()
            aliases = {wanted: str(names[0]) if names else wanted}
        relative = path.data == "import_rel" and not module  # lark's own files may say .common
        if relative or len(parts) != 1 or parts[0] not in OWN_FILES:
            raise GrammarError(
                f"%import {'.' * relative}{'.'.join(parts)}: only lark's own grammars can be imported: "
                f"{', '.join(OWN_FILES)}"
            )
        (source,) = parts
        if source not in self._loaded:
            self._loaded.add(source)
            self._load(_own_file(source), source)
        for wanted, alias in aliases.items():
            if Name(module, alias) in self._elsewhere or Name(module, alias) in self._found:
                raise GrammarError(f"%import {source}.{wanted}: {alias!r} is defined already")
            self._elsewhere[Name(module, alias)] = self.find(Name(source, wanted))


def _parsed(text: str) -> Any:
    return _parse_grammar(text, "grammar")  # type: ignore[no-untyped-call]


@lru_cache(len(OWN_FILES))
def _own_file(name: str) -> Any:
    return _parsed(importlib.resources.files("lark").joinpath("grammars", f"{name}.lark").read_text("utf-8"))


def count(arguments: list[Any]) -> tuple[int, int | None]:
    """What an operator, or ~ and its numbers, ask for."""
    if arguments[0] != "~":
        return int(arguments[0] == "+"), 1 if arguments[0] == "?" else None
    numbers = [int(number) if len(number) <= 10 else MAX_COUNT + 1 for number in arguments[1:]]
    least, most = numbers[0], numbers[-1]
    if not 0 <= least <= most <= MAX_COUNT:
        raise GrammarError(f"~ {'..'.join(arguments[1:])} is not a count of at most {MAX_COUNT:,}")
    return least, most
