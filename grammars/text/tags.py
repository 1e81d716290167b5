"""Structural tags: free text in which a trigger begins a part that must obey, such as the call of a tool.

    free text ...   <function=   get_weather>{"city": "Rome"}</function>   free text ...
                  ^ the trigger: a tag comes now, and nothing else

Read are the two JSON shapes in use: `structures` with `triggers` (OpenAI's and SGLang's), and xgrammar's `format`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import GrammarError
from ..compiling import compile_grammar
from ..expression import ANY_BYTE, EMPTY, Expression, both, complement, concat, either, literal, repeat
from ..grammar import Grammar
from ..joining import embed
from ..patterns import universe
from ..program import Counted, Definition, Lexeme, Program, Rules, Symbol

MAX_DEPTH = 20  # of formats within formats
MAX_TAGS = 2_000

Spec = Mapping[str, Any]
_Tag = tuple[str, Symbol | None, list[str]]  # its beginning, its content (None: free text), its possible ends


def structural_tag(spec: Spec | str) -> Grammar:
    """The texts that a structural tag allows; `spec` is its mapping or that as JSON text.

    `{"structures": [{"begin", "schema", "end"}], "triggers": [...]}`: free text, in which a trigger is always the
    beginning of a structure's `begin`. `{"format": {...}}`: xgrammar's, of the types any_text, const_string, grammar,
    json_schema, or, regex, sequence, tag, tags_with_separator and triggered_tags. Each may be wrapped as
    `{"type": "structural_tag", ...}`. Raises GrammarError, whose `path` is the place in the spec.
    """
    source = spec if isinstance(spec, str) else _written(spec)
    try:
        read = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"a structural tag that is not JSON: {error}") from None
    writer = _Writer()
    spec = _mapping(read, "")
    if "structures" in spec:
        start = writer.legacy(spec)
    else:
        start = writer.format(_needed(spec, "format", ""), "/format", 0)
    return Grammar(Program(writer.definitions, start), "structural_tag", source)


class _Writer:
    """Writes definitions; each method returns the symbol of what it wrote. `path` is where in the spec it stands."""

    def __init__(self) -> None:
        self.definitions: list[Definition | None] = []

    def legacy(self, spec: Spec) -> Symbol:
        tags: list[_Tag] = [
            (
                _text(one, "begin", f"/structures/{at}"),
                self._compiled("json_schema", _needed(one, "schema", f"/structures/{at}"), f"/structures/{at}/schema"),
                [_text(one, "end", f"/structures/{at}")],
            )
            for at, one in enumerate(_list(spec, "structures", ""))
        ]
        return self._triggered(tags, _texts(spec, "triggers", ""), "", at_least_one=False, once=False)

    def format(self, spec: Any, path: str, depth: int) -> Symbol:
        """A format of xgrammar's."""
        spec = _mapping(spec, path)
        kind = spec.get("type")
        if depth > MAX_DEPTH:
            raise GrammarError(f"formats within formats deeper than {MAX_DEPTH}", path)
        if kind == "any_text":
            return self._lexeme(universe("utf8"))
        if kind == "const_string":
            return self._lexeme(_encoded(_text(spec, "value", path), path))
        if kind in _COMPILED:
            front_end, name = _COMPILED[str(kind)]
            return self._compiled(front_end, _needed(spec, name, path), f"{path}/{name}")
        if kind in ("sequence", "or"):
            parts = [
                self.format(one, f"{path}/elements/{at}", depth + 1)
                for at, one in enumerate(_list(spec, "elements", path))
            ]
            return self._rules([parts] if kind == "sequence" else [[part] for part in parts])
        if kind == "tag":
            return self._whole_tag(self._tag(spec, path, depth))
        tags = [self._tag(one, f"{path}/tags/{at}", depth) for at, one in enumerate(self._tags(spec, path, kind))]
        once = _flag(spec, "stop_after_first", path)
        at_least_one = _flag(spec, "at_least_one", path)
        if kind == "triggered_tags":
            return self._triggered(tags, _texts(spec, "triggers", path), path, at_least_one=at_least_one, once=once)
        any_tag = self._rules([[self._whole_tag(tag)] for tag in tags])
        separator = self._lexeme(_encoded(_text(spec, "separator", path), path))
        return self._add(Counted(any_tag, int(at_least_one), 1 if once else None, separator))

    def _tags(self, spec: Spec, path: str, kind: Any) -> list[Any]:
        if kind not in ("triggered_tags", "tags_with_separator"):
            raise GrammarError(f"no type of format is called {kind!r}", f"{path}/type")
        return _list(spec, "tags", path)

    def _tag(self, spec: Any, path: str, depth: int) -> _Tag:
        spec = _mapping(spec, path)
        content = _mapping(_needed(spec, "content", path), f"{path}/content")
        ends = [_text(spec, "end", path)] if isinstance(spec.get("end"), str) else _texts(spec, "end", path)
        if content.get("type") == "any_text" and all(ends):
            return _text(spec, "begin", path), None, ends
        return _text(spec, "begin", path), self.format(content, f"{path}/content", depth + 1), ends

    def _whole_tag(self, tag: _Tag) -> Symbol:
        return self._rules([self._tag_after(tag, 0)])

    def _tag_after(self, tag: _Tag, begun: int) -> list[Symbol]:
        """A tag of whose beginning so many characters have been written."""
        begin, content, ends = tag
        opening = self._lexeme(_encoded(begin[begun:], ""))
        if content is None:
            return [opening, self._lexeme(_up_to(ends))]
        return [opening, content, self._lexeme(either(_encoded(end, "") for end in ends))]

    def _triggered(
        self,
        tags: list[_Tag],
        triggers: list[str],
        path: str,
        *,
        at_least_one: bool,
        once: bool,
    ) -> Symbol:
        """Free text and tags by turns. What is free has no trigger in it, so a trigger is a tag's beginning."""
        if not triggers or not all(triggers):
            raise GrammarError("triggers must be texts that are not empty, at least one", f"{path}/triggers")
        for at, (begin, _, _) in enumerate(tags):
            if not any(begin.startswith(trigger) for trigger in triggers):
                raise GrammarError(f"no trigger begins {begin!r}, so this tag would never come", f"{path}/tags/{at}")
        free = self._lexeme(_without(triggers))
        ways: list[list[Symbol]] = []
        for trigger in dict.fromkeys(triggers):
            follow = [self._tag_after(tag, len(trigger)) for tag in tags if tag[0].startswith(trigger)]
            if follow:
                ways.append([self._lexeme(_first(trigger, triggers)), self._rules(follow)])
        piece = self._rules(ways)
        if once:
            return self._rules([[piece]] if at_least_one else [[piece], [free]])
        return self._rules([[self._add(Counted(piece, int(at_least_one), None)), free]])

    def _compiled(self, kind: str, source: Any, path: str) -> Symbol:
        try:
            return embed(self.definitions, compile_grammar(kind, source).program)
        except GrammarError as error:
            raise type(error)(str(error), path) from None

    def _lexeme(self, expression: Expression) -> Symbol:
        return self._add(Lexeme(expression))

    def _rules(self, alternatives: Sequence[Sequence[Symbol]]) -> Symbol:
        return self._add(Rules(tuple(map(tuple, alternatives))))

    def _add(self, definition: Definition) -> Symbol:
        if len(self.definitions) > 100_000:
            raise GrammarError("a structural tag of more than 100,000 definitions")
        self.definitions.append(definition)
        return len(self.definitions) - 1


_COMPILED = {
    "json_schema": ("json_schema", "json_schema"),
    "regex": ("regex", "pattern"),
    "grammar": ("ebnf", "grammar"),
}


def _somewhere(triggers: Sequence[str]) -> Expression:
    return concat([universe("utf8"), either(literal(trigger.encode()) for trigger in triggers)])


def _without(triggers: Sequence[str]) -> Expression:
    """Texts with no trigger in them."""
    return both([universe("utf8"), complement(concat([_somewhere(triggers), universe("utf8")]))])


def _first(trigger: str, triggers: Sequence[str]) -> Expression:
    """Free text, then `trigger`: the first of all triggers to be complete."""
    whole = concat([universe("utf8"), literal(trigger.encode())])
    earlier = concat([_somewhere(triggers), repeat(ANY_BYTE, 1)])
    return both([whole, complement(earlier)])


def _up_to(ends: Sequence[str]) -> Expression:
    """Free text up to the first end, which is part of it."""
    return either(_first(end, ends) for end in ends)


def _encoded(text: str, path: str) -> Expression:
    try:
        return literal(text.encode()) if text else EMPTY
    except UnicodeEncodeError:
        raise GrammarError(f"half of a surrogate pair in {text!r} cannot be written", path) from None


def _written(spec: Any) -> str:
    try:
        return json.dumps(spec)
    except (TypeError, ValueError, RecursionError) as error:
        raise GrammarError(f"a structural tag that is not JSON: {error}") from None


def _checked(spec: Any, name: str, path: str, kind: type | tuple[type, ...], what: str) -> Any:
    value = _needed(spec, name, path)
    if not isinstance(value, kind):
        raise GrammarError(f"{name} is {what}, not {type(value).__name__}", f"{path}/{name}")
    return value


def _needed(spec: Any, name: str, path: str) -> Any:
    if name not in _mapping(spec, path):
        raise GrammarError(f"{name!r} is missing", path)
    return spec[name]


def _mapping(spec: Any, path: str) -> Spec:
    if not isinstance(spec, Mapping):
        raise GrammarError(f"an object is expected, not {type(spec).__name__}", path)
    return spec


def _text(spec: Any, name: str, path: str) -> str:
    found: str = _checked(spec, name, path, str, "a string")
    _encoded(found, f"{path}/{name}")
    return found


def _list(spec: Any, name: str, path: str) -> list[Any]:
    found: list[Any] = _checked(spec, name, path, list, "a list")
    if not 0 < len(found) <= MAX_TAGS:
        raise GrammarError(f"{name} has {len(found)} entries; 1 to {MAX_TAGS:,} are read", f"{path}/{name}")
    return found


def _texts(spec: Any, name: str, path: str) -> list[str]:
    found = _list(spec, name, path)
    return [_text(dict(enumerate(found)), at, f"{path}/{name}") for at in range(len(found))]  # type: ignore[arg-type]


def _flag(spec: Any, name: str, path: str) -> bool:
    return bool(_checked(spec, name, path, bool, "true or false")) if name in spec else False
