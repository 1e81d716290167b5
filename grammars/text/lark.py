"""Reads grammars in Lark's notation; lark itself reads the text, what it read becomes rules here.

Every terminal may be followed by what the grammar ignores, and so may the beginning. A text may be split into
terminals in any way that fits, not only the longest first: priorities, which say what a lexer prefers, change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lark.exceptions import GrammarError as LarkGrammarError
from lark.exceptions import UnexpectedInput
from lark.grammar import NonTerminal, Symbol, Terminal
from lark.lexer import PatternStr
from lark.load_grammar import _literal_to_pattern
from lark.tree import Tree

from ...errors import GrammarError, GrammarTooLarge
from ..expression import ANY_BYTE, EMPTY, Expression, both, complement, concat, either, repeat
from ..patterns import Node, lower, parse
from ..patterns.characters import character_set
from ..patterns.parser import MAX_DEPTH as MAX_PATTERN_DEPTH
from ..patterns.tree import Characters, Sequence, alternatives, counted, sequence
from ..program import Program
from .bodies import Body, Reference, Regular, in_order, one_of, times
from .lark_definitions import Definition, Definitions, Name, count
from .rules import program

MAX_TEXT = 100_000  # characters: lark reads about as many in a second
MAX_INSTANCES, MAX_INSTANCE = 10_000, 10_000  # uses of templates with different arguments, and characters of one
MAX_WEIGHT = 50_000  # parts of a terminal, with the terminals in it

_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "u": re.UNICODE, "l": re.LOCALE}


@dataclass(frozen=True, slots=True)
class _Argument:
    """A value: a name, with arguments when it is a template; or the tree of a literal."""

    value: Any
    arguments: tuple[_Argument, ...] = ()

    def __str__(self) -> str:
        return f"{self.value}{{{', '.join(map(str, self.arguments))}}}" if self.arguments else str(self.value)


_Given = dict[str, _Argument]


def read_lark(text: str, start: str = "start") -> Program:
    """The program of a Lark grammar.

    `%import` works from lark's own files only (`common`, `unicode`, ...). Raises GrammarError for what is malformed or
    not defined, and when there is no text in the language; GrammarTooLarge beyond `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise GrammarTooLarge(f"a Lark grammar of {len(text):,} characters; at most {MAX_TEXT:,} are read")
    try:
        return _Translator(Definitions(text)).program(start)
    except UnexpectedInput as error:
        raise GrammarError(f"not a Lark grammar: {_first_line(error)}", _where(error)) from None
    except LarkGrammarError as error:
        raise GrammarError(f"not a Lark grammar: {_first_line(error)}") from None
    except RecursionError:
        raise GrammarTooLarge("groups that nest too deep; make rules of them") from None


class _Translator:
    """Rules out of what lark has read. A template becomes one rule for each set of its arguments."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._nodes: dict[Name, tuple[Node, int] | None] = {}  # None: being read
        self._lexemes: dict[object, Body] = {}
        self._instances: dict[str, tuple[Definition, _Given]] = {}
        self._waiting: list[str] = []
        ignored = [_lowered(*self._node(tree, "")) for tree in definitions.ignored]
        self._ignored: Expression = repeat(either(ignored)) if ignored else EMPTY

    def program(self, start: str) -> Program:
        bodies: dict[str, Body] = {}
        whole = f"the text of {start}"  # no rule can have this name
        bodies[whole] = in_order([Regular(self._ignored, 10), self._use(Name("", start), ())])
        while self._waiting:
            instance = self._waiting.pop()
            definition, given = self._instances[instance]
            bodies[instance] = one_of(self._body(tree, module, given) for module, tree in definition.ways)
        return program(bodies, whole)

    def _use(self, name: Name, arguments: tuple[_Argument, ...]) -> Body:
        found = self._definitions.find(name)
        definition = self._definitions.of(found)
        if len(arguments) != len(definition.params):
            raise GrammarError(f"the template {name.name!r} takes {len(definition.params)} arguments")
        instance = str(found) if not arguments else f"{found}{{{', '.join(map(str, arguments))}}}"
        if instance not in self._instances:
            if len(self._instances) > MAX_INSTANCES or len(instance) > MAX_INSTANCE:
                raise GrammarTooLarge(f"the template {name.name!r} is used in ever more ways")
            self._instances[instance] = (definition, dict(zip(definition.params, arguments, strict=True)))
            self._waiting.append(instance)
        return Reference(instance)

    # ------------------------------------------------------------------ rules

    def _body(self, tree: Any, module: str, given: _Given) -> Body:
        """The body of a tree out of `module`, where `given` stands for the template's parameters."""
        kind, children = tree.data, tree.children
        if kind == "expansions":
            return one_of(self._body(child, module, given) for child in children)
        if kind == "alias":
            return self._body(children[0], module, given)
        if kind == "expansion":
            return in_order(self._body(child, module, given) for child in children)
        if kind == "maybe":
            return times(self._body(children[0], module, given), 0, 1)
        if kind == "expr":
            return times(self._body(children[0], module, given), *count(children[1:]))
        return self._argument(_filled(tree, module, given))

    def _argument(self, argument: _Argument) -> Body:
        """The body of a value: a rule, a template with its arguments, or a terminal."""
        if isinstance(argument.value, Name):
            if argument.value.name.lstrip("_")[:1].islower():
                return self._use(argument.value, argument.arguments)
            name = self._definitions.find(argument.value)
            return self._lexeme(name, lambda: self._terminal(name))
        tree = argument.value
        return self._lexeme(str(tree), lambda: self._node(tree, ""))

    def _lexeme(self, key: object, read: Callable[[], tuple[Node, int]]) -> Body:
        found = self._lexemes.get(key)
        if found is None:
            node, weight = read()
            found = self._lexemes[key] = Regular(concat([_lowered(node, weight), self._ignored]), weight)
        return found

    # -------------------------------------------------------------- terminals

    def _terminal(self, name: Name) -> tuple[Node, int]:
        """What a terminal says, and how much that is."""
        found = self._nodes.get(name)
        if found is None:
            if name in self._nodes:
                raise GrammarError(f"the terminal {name.name!r} comes back to itself; only rules may")
            self._nodes[name] = None
            parts = [self._node(tree, module) for module, tree in self._definitions.of(name).ways]
            found = alternatives(node for node, _ in parts), sum(weight for _, weight in parts)
            if found[1] > MAX_WEIGHT:
                raise GrammarTooLarge(
                    f"the terminal {name.name!r} has more than {MAX_WEIGHT:,} parts; make a rule of it"
                )
            self._nodes[name] = found
        return found

    def _node(self, tree: Any, module: str) -> tuple[Node, int]:
        kind, children = tree.data, tree.children
        if kind == "literal":
            pattern = _literal_to_pattern(children[0])  # type: ignore[no-untyped-call]
            flags = sum(_FLAGS[flag] for flag in pattern.flags)
            source = re.escape(pattern.value) if isinstance(pattern, PatternStr) else pattern.value
            return parse(source, "python", flags), len(source)
        if kind == "range":
            first, last = (_literal_to_pattern(token).value for token in children)  # type: ignore[no-untyped-call]
            if len(first) != 1 or len(last) != 1 or first > last:
                raise GrammarError(f"{children[0]}..{children[1]} is not a range of characters")
            return Characters(character_set([(ord(first), ord(last))])), 1
        if kind == "template_usage" or (kind == "value" and isinstance(children[0], NonTerminal)):
            raise GrammarError(f"a terminal cannot use a rule: {children[0]}")
        if kind == "value" and isinstance(children[0], Terminal):
            return self._terminal(self._definitions.find(Name(module, children[0].name)))
        inner = [self._node(child, module) for child in children if isinstance(child, Tree)]
        nodes, weight = [node for node, _ in inner], 1 + sum(weight for _, weight in inner)
        if weight > MAX_WEIGHT:
            raise GrammarTooLarge(f"a terminal of more than {MAX_WEIGHT:,} parts; make a rule of it")
        if kind == "expansions":
            return alternatives(nodes), weight
        if kind == "maybe":
            return counted(nodes[0], 0, 1), weight
        if kind == "expr":
            return counted(nodes[0], *count(children[1:])), weight
        return sequence(nodes), weight  # expansion, value, alias


def _lowered(node: Node, _: int) -> Expression:
    """A terminal's texts. One that is lazy ends where it first can, as it would for a lexer.

    So it does up to what follows its last lazy part: in /".*?"[a-z]*/, the quotation ends at its first quotation mark.
    """
    if node.depth > MAX_PATTERN_DEPTH:
        raise GrammarTooLarge(f"a terminal that nests deeper than {MAX_PATTERN_DEPTH}; make rules of its parts")
    if not node.lazy:
        return lower(node)
    parts = node.parts if isinstance(node, Sequence) else (node,)
    end = max(at for at, part in enumerate(parts) if part.lazy) + 2
    head = lower(sequence(parts[:end]))
    more = concat([head, repeat(ANY_BYTE, 1)])
    return concat([both([head, complement(more)]), lower(sequence(parts[end:]))])


def _filled(tree: Any, module: str, given: _Given) -> _Argument:
    """A value with the parameters of the template around it put in."""
    (child,) = tree.children
    if isinstance(child, Symbol):
        return given.get(child.name) or _Argument(Name(module, child.name))
    if child.data == "template_usage":
        symbol, *inner = child.children
        return _Argument(Name(module, symbol.name), tuple(_filled(one, module, given) for one in inner))
    return _Argument(child)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _where(error: UnexpectedInput) -> str:
    return f"line {error.line}, column {error.column}" if error.line and error.line > 0 else ""
