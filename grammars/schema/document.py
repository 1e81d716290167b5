"""A schema document: which draft it is written in, and what its references mean; nothing is ever fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from ...errors import GrammarError, GrammarTooLarge
from .terms import shown

# Keywords whose meaning is that of other subschemas, combined.
APPLICATORS = frozenset(
    (
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
    )
)

DEEPEST = 2000  # objects and lists within each other
_DRAFTS = {"draft-04": 4, "draft-06": 6, "draft-07": 7, "2019-09": 2019, "2020-12": 2020}
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"))
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_DATA = frozenset(("enum", "const", "default", "examples", "example"))


@dataclass(frozen=True, slots=True)
class Resource:
    """A part of the document with a URI of its own: references inside are relative to it."""

    uri: str
    raw: Any
    pointer: str
    draft: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a reference leads."""

    raw: Any
    pointer: str
    resource: int


class Document:
    """A schema and its index: made in one pass over it, without recursion. The schema must not change afterwards.

    `words` holds every key that occurs anywhere, so that what is not used costs nothing.
    """

    def __init__(self, raw: dict[str, Any], limit: int) -> None:
        self.raw = raw
        self.words = _words(raw, limit)
        draft = _draft(raw.get("$schema"), 2020, "")
        identifier = raw.get(_identifier(draft))
        uri = identifier if isinstance(identifier, str) else ""
        self.resources = [Resource(uri.rstrip("#"), raw, "", draft)]
        self._inner: dict[int, int] | None = None  # id(raw) -> resource, for subschemas with an $id of their own
        self._by_uri: dict[str, int] = {}
        self._anchors: dict[tuple[int, str], Target] = {}
        self._dynamic: set[tuple[int, str]] = set()  # which of the anchors are $dynamicAnchor
        self._simple = not self.words & {"$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor"}

    def draft(self, resource: int) -> int:
        return self.resources[resource].draft

    def resource_of(self, raw: dict[str, Any], resource: int) -> int:
        """The resource that a subschema belongs to, whose parent belongs to `resource`."""
        if self._simple:
            return resource
        return self._index().get(id(raw), resource)

    def resolve(self, reference: str, resource: int, pointer: str, dynamic: bool = False) -> Target:
        """Where a `reference` in `resource`, at `pointer`, leads to. GrammarError when that is not in the document."""
        uri, fragment = reference, ""
        if "#" in reference:
            uri, fragment = urldefrag(reference)
        at = resource
        if uri:
            self._index()
            full = urljoin(self.resources[resource].uri, uri)
            found = self._by_uri.get(full)
            if found is None:
                raise GrammarError(f"{shown(reference)} is not in this schema, and nothing is fetched", pointer)
            at = found
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            self._index()
            anchor = self._anchors.get((at, fragment))
            if anchor is None:
                raise GrammarError(f"no $anchor {shown(fragment)} for {shown(reference)}", pointer)
            several = sum(name == fragment for _, name in self._dynamic) > 1
            if dynamic and (at, fragment) in self._dynamic and several:
                raise GrammarError(f"a $dynamicRef to one of several anchors {shown(fragment)}", pointer)
            return anchor
        return self._follow(self.resources[at], at, fragment, reference, pointer)

    def _follow(self, start: Resource, at: int, fragment: str, reference: str, pointer: str) -> Target:
        raw, path = start.raw, start.pointer
        for step in fragment.split("/")[1:]:
            path = f"{path}/{step}"
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(raw, dict) and key in raw:
                raw = raw[key]
            elif isinstance(raw, list) and re.fullmatch("0|[1-9][0-9]{0,8}", key) and int(key) < len(raw):
                raw = raw[int(key)]
            else:
                raise GrammarError(f"{shown(reference)} leads nowhere: there is no {path}", pointer)
            if not self._simple and isinstance(raw, dict):
                at = self.resource_of(raw, at)
        return Target(raw, path, at)

    def _index(self) -> dict[int, int]:
        if self._inner is not None:
            return self._inner
        inner: dict[int, int] = {}
        self._inner = inner
        self._by_uri[self.resources[0].uri] = 0
        self._by_uri.setdefault("", 0)
        stack: list[tuple[Any, str, int]] = [(self.raw, "", 0)]
        while stack:
            raw, pointer, resource = stack.pop()
            if not isinstance(raw, dict):
                continue
            resource = self._enter(raw, pointer, resource, inner)
            inner[id(raw)] = resource
            for key, value in raw.items():
                path = f"{pointer}/{escape(key)}"
                if key in _MAPS and isinstance(value, dict):
                    stack += [(sub, f"{path}/{escape(name)}", resource) for name, sub in value.items()]
                elif key in _LISTS and isinstance(value, list):
                    stack += [(sub, f"{path}/{place}", resource) for place, sub in enumerate(value)]
                elif key not in _DATA and isinstance(value, dict):
                    stack.append((value, path, resource))
        return inner

    def _enter(self, raw: dict[str, Any], pointer: str, resource: int, inner: dict[int, int]) -> int:
        """Index one subschema's own identifier and anchors; returns the resource it belongs to."""
        draft = self.resources[resource].draft
        identifier = raw.get(_identifier(draft))
        if draft <= 7 and "$ref" in raw:
            identifier = None  # its siblings are ignored
        if isinstance(identifier, str) and draft <= 7 and identifier.startswith("#"):
            self._anchors.setdefault((resource, identifier[1:]), Target(raw, pointer, resource))
        elif isinstance(identifier, str) and pointer:
            parent = self.resources[resource]
            uri = urldefrag(urljoin(parent.uri, identifier))[0]
            own = _draft(raw.get("$schema"), draft, pointer)
            self.resources.append(Resource(uri, raw, pointer, own))
            resource = len(self.resources) - 1
            self._by_uri.setdefault(uri, resource)
        for word in ("$anchor", "$dynamicAnchor"):
            anchor = raw.get(word)
            if isinstance(anchor, str) and draft >= 2019:
                self._anchors.setdefault((resource, anchor), Target(raw, pointer, resource))
                if word == "$dynamicAnchor":
                    self._dynamic.add((resource, anchor))
        return resource


def escape(key: str) -> str:
    """A key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def _identifier(draft: int) -> str:
    return "id" if draft == 4 else "$id"


def _draft(schema: object, default: int, pointer: str) -> int:
    if not isinstance(schema, str):
        return default
    if "draft-03" in schema:
        raise GrammarError("JSON Schema draft 3 is not supported; from draft 4 on, all are", f"{pointer}/$schema")
    return next((number for name, number in _DRAFTS.items() if name in schema), default)


def _words(raw: dict[str, Any], limit: int) -> set[str]:
    """Every key anywhere in the document. GrammarTooLarge beyond `limit` values."""
    words: set[str] = set()
    level: list[Any] = [raw]
    count = depth = 0
    while level:
        deeper: list[Any] = []
        for value in level:
            if type(value) is dict:
                words.update(value)
                deeper.extend(value.values())
            elif type(value) is list:
                deeper.extend(value)
        level = deeper
        count += len(level)
        depth += 1
        if count > limit:
            raise GrammarTooLarge(f"a schema of more than {limit} values")
        if depth > DEEPEST:
            raise GrammarTooLarge(f"a schema nested more than {DEEPEST} deep")
    if any(type(word) is not str for word in words):
        raise GrammarError("a key that is not a string")
    return words
