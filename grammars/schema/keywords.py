"""What a subschema's own keywords say, for each JSON type: one shape each; applicators are `normalize.py`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from ...errors import GrammarError
from .document import Document, escape
from .formats import known_format
from .scalars import exact_number, settled_numbers, settled_strings
from .shapes import (
    ALL_KEYS,
    ANY_ARRAY,
    ANY_NUMBER,
    ANY_OBJECT,
    ANY_STRING,
    BOTH_BOOLEANS,
    EVERYTHING,
    Arrays,
    Atom,
    Bound,
    Contains,
    Keys,
    Normal,
    Numbers,
    Objects,
    Strings,
)
from .terms import FALSE, TRUE, Terms, shown
from .values import values_normal

_OF_NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_OF_STRINGS = frozenset(("minLength", "maxLength", "pattern", "format"))
_OF_ARRAYS = frozenset(("items", "prefixItems", "additionalItems", "minItems", "maxItems", "contains", "uniqueItems"))
_OF_OBJECTS = frozenset(
    (
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "required",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependencies",
    )
)
TYPES = {
    "null": Normal(null=True),
    "boolean": Normal(booleans=BOTH_BOOLEANS),
    "number": Normal(numbers=(ANY_NUMBER,)),
    "integer": Normal(numbers=(Numbers(integer=True),)),
    "string": Normal(strings=(ANY_STRING,)),
    "array": Normal(arrays=(ANY_ARRAY,)),
    "object": Normal(objects=(ANY_OBJECT,)),
}


class Keywords:
    """Reads the keywords of subschemas. `origins` remembers where patterns were written, for errors that come later."""

    def __init__(self, document: Document, terms: Terms, annotated: bool) -> None:
        self.document = document
        self.terms = terms
        self.annotated = annotated
        self.origins: dict[str, str] = {}

    def own(self, raw: dict[str, Any], pointer: str, resource: int, draft: int) -> Normal:
        """All that the keywords say which do not apply other schemas to the value itself."""
        found = self._type(raw["type"], pointer) if "type" in raw else EVERYTHING
        words = raw.keys()
        if found.numbers and not words.isdisjoint(_OF_NUMBERS):
            numbers = self._numbers(raw, pointer, draft, found.numbers[0].integer)
            found = found._replace(numbers=() if numbers is None else (numbers,))
        if found.strings and not words.isdisjoint(_OF_STRINGS):
            strings = self._strings(raw, pointer)
            found = found._replace(strings=() if strings is None else (strings,))
        if found.arrays and not words.isdisjoint(_OF_ARRAYS):
            arrays = self.arrays(raw, pointer, resource, draft)
            found = found._replace(arrays=() if arrays is None else (arrays,))
        if found.objects and not words.isdisjoint(_OF_OBJECTS):
            objects = self._objects(raw, pointer, resource, draft)
            found = found._replace(objects=() if objects is None else (objects,))
        return found

    def values(self, raw: dict[str, Any], pointer: str, draft: int) -> Iterator[Normal]:
        """What `enum` and `const` say."""
        if "enum" in raw:
            if not isinstance(raw["enum"], list) or not raw["enum"]:
                raise GrammarError("enum is a list of values, at least one", f"{pointer}/enum")
            yield values_normal(raw["enum"], f"{pointer}/enum", self.terms)
        if "const" in raw and draft >= 6:
            yield values_normal((raw["const"],), f"{pointer}/const", self.terms)

    def dependent_schemas(self, raw: dict[str, Any], pointer: str, draft: int) -> Iterator[tuple[str, object, str]]:
        """What must hold of an object that has a key: (key, schema, its place)."""
        for word in ("dependentSchemas", "dependencies"):
            if word not in raw or (word == "dependentSchemas" and draft < 2019):
                continue
            for key, sub in _mapping(raw, word, pointer).items():
                if word == "dependentSchemas" or not isinstance(sub, list):
                    yield key, sub, f"{pointer}/{word}/{escape(key)}"

    def _type(self, given: object, pointer: str) -> Normal:
        if isinstance(given, str) and given in TYPES:
            return TYPES[given]
        if not isinstance(given, list) or not given:
            raise GrammarError(
                f"type is one of {', '.join(TYPES)} or a list of them, not {shown(given)}", f"{pointer}/type"
            )
        parts = [self._type(one, pointer) if isinstance(one, str) else self._type(None, pointer) for one in given]
        numbers = [part.numbers[0] for part in parts if part.numbers]
        return Normal(
            any(part.null for part in parts),
            frozenset().union(*(part.booleans for part in parts)),
            (numbers[0] if all(one.integer for one in numbers) else ANY_NUMBER,) if numbers else (),
            (ANY_STRING,) if any(part.strings for part in parts) else (),
            (ANY_ARRAY,) if any(part.arrays for part in parts) else (),
            (ANY_OBJECT,) if any(part.objects for part in parts) else (),
        )

    def _numbers(self, raw: dict[str, Any], pointer: str, draft: int, integer: bool) -> Numbers | None:
        low = _bound(raw, "minimum", "exclusiveMinimum", pointer, draft, max)
        high = _bound(raw, "maximum", "exclusiveMaximum", pointer, draft, min)
        steps: tuple[Fraction, ...] = ()
        if "multipleOf" in raw:
            step = _number(raw, "multipleOf", pointer)
            if step <= 0:
                raise GrammarError("multipleOf is a number above 0", f"{pointer}/multipleOf")
            steps = (step,)
        return settled_numbers(Numbers(integer, False, low, high, steps))

    def _strings(self, raw: dict[str, Any], pointer: str) -> Strings | None:
        atoms = []
        if "pattern" in raw:
            if not isinstance(raw["pattern"], str):
                raise GrammarError("pattern is a string", f"{pointer}/pattern")
            atoms.append(Atom("pattern", raw["pattern"]))
            self.origins.setdefault(raw["pattern"], f"{pointer}/pattern")
        name = raw.get("format")
        if name is not None and not isinstance(name, str):
            raise GrammarError("format is a string", f"{pointer}/format")
        if name is not None and known_format(name):
            atoms.append(Atom("format", name))
        least, most = _count(raw, "minLength", pointer) or 0, _count(raw, "maxLength", pointer)
        return settled_strings(Strings(inside=tuple(atoms), least=least, most=most))

    def arrays(self, raw: dict[str, Any], pointer: str, resource: int, draft: int) -> Arrays | None:
        """What the keywords of arrays say; None when there is no such array."""
        prefix: list[object] = []
        rest: object = None
        places, rest_place = f"{pointer}/prefixItems", f"{pointer}/items"
        if "prefixItems" in raw and draft >= 2020:
            prefix, rest = _list(raw, "prefixItems", pointer), raw.get("items")
        elif isinstance(raw.get("items"), list):  # how it was written until 2020; many still do
            prefix, rest = raw["items"], raw.get("additionalItems")
            places, rest_place = f"{pointer}/items", f"{pointer}/additionalItems"
        elif "items" in raw:
            rest = raw["items"]
        terms = tuple(self.terms.node(one, f"{places}/{place}", resource) for place, one in enumerate(prefix))
        rest_term = TRUE if rest is None else self.terms.node(rest, rest_place, resource)
        least, most = _count(raw, "minItems", pointer) or 0, _count(raw, "maxItems", pointer)
        contains: tuple[Contains, ...] = ()
        seen_if: tuple[int, ...] = ()
        if "contains" in raw and draft >= 6:
            term = self.terms.node(raw["contains"], f"{pointer}/contains", resource)
            fewest = _count(raw, "minContains", pointer) if draft >= 2019 else None
            greatest = _count(raw, "maxContains", pointer) if draft >= 2019 else None
            fewest = 1 if fewest is None else fewest
            if greatest is not None and fewest > greatest:
                return None
            if fewest or greatest is not None:
                contains = (Contains(term, fewest, greatest),)
            seen_if = (term,) if self.annotated and draft >= 2020 else ()
        unique = raw.get("uniqueItems", False)
        if not isinstance(unique, bool):
            raise GrammarError("uniqueItems is true or false", f"{pointer}/uniqueItems")
        if most is not None and least > most:
            return None
        seen = (None if rest is not None else len(terms)) if self.annotated else 0
        return Arrays(terms, rest_term, least, most, contains, unique, seen, seen_if)

    def _objects(self, raw: dict[str, Any], pointer: str, resource: int, draft: int) -> Objects | None:
        properties, patterns = _mapping(raw, "properties", pointer), _mapping(raw, "patternProperties", pointer)
        node = self.terms.node
        named = tuple(
            (key, node(sub, f"{pointer}/properties/{escape(key)}", resource)) for key, sub in properties.items()
        )
        classes = []
        for pattern, sub in patterns.items():
            place = f"{pointer}/patternProperties/{escape(pattern)}"
            self.origins.setdefault(pattern, place)
            classes.append((Keys(patterns=(pattern,)), node(sub, place, resource)))
        seen = Keys(frozenset(properties), tuple(patterns))
        if "additionalProperties" in raw:
            rest = node(raw["additionalProperties"], f"{pointer}/additionalProperties", resource)
            if rest != TRUE:
                classes.append((seen._replace(inverted=True), rest))
            seen = ALL_KEYS
        if "propertyNames" in raw and draft >= 6:
            names = node(raw["propertyNames"], f"{pointer}/propertyNames", resource)
            if names != TRUE:
                classes.append((Keys(terms=(names,), inverted=True) if names != FALSE else ALL_KEYS, FALSE))
        required = raw.get("required", [])
        if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
            raise GrammarError("required is a list of names", f"{pointer}/required")
        least, most = _count(raw, "minProperties", pointer) or 0, _count(raw, "maxProperties", pointer)
        if most is not None and max(least, len(set(required))) > most:
            return None
        if required and any(term == FALSE and key in required for key, term in named):
            return None
        return Objects(
            named,
            tuple(classes),
            tuple(dict.fromkeys(required)),
            least,
            most,
            tuple(self._needs(raw, pointer, draft)),
            (),
            (seen,) if self.annotated and (seen == ALL_KEYS or seen.names or seen.patterns) else (),
        )

    def _needs(self, raw: dict[str, Any], pointer: str, draft: int) -> Iterator[tuple[str, str]]:
        for word in ("dependentRequired", "dependencies"):
            if word not in raw or (word == "dependentRequired" and draft < 2019):
                continue
            for key, needed in _mapping(raw, word, pointer).items():
                if isinstance(needed, list) and all(isinstance(one, str) for one in needed):
                    yield from ((key, one) for one in needed if one != key)
                elif word == "dependentRequired" or isinstance(needed, list):
                    raise GrammarError("a list of names is needed here", f"{pointer}/{word}/{escape(key)}")


def _mapping(raw: dict[str, Any], word: str, pointer: str) -> dict[str, Any]:
    found = raw.get(word)
    if found is None and word not in raw:
        return {}
    if type(found) is not dict:
        raise GrammarError(f"{word} is an object, not {shown(found)}", f"{pointer}/{word}")
    return found


def _list(raw: dict[str, Any], word: str, pointer: str) -> list[Any]:
    found = raw[word]
    if type(found) is not list:
        raise GrammarError(f"{word} is a list, not {shown(found)}", f"{pointer}/{word}")
    return found


def _count(raw: dict[str, Any], word: str, pointer: str) -> int | None:
    found = raw.get(word)
    if found is None and word not in raw:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found < 0 or found != found // 1:
        raise GrammarError(f"{word} is a whole number, 0 or more, not {shown(found)}", f"{pointer}/{word}")
    return int(found)


def _number(raw: dict[str, Any], word: str, pointer: str) -> Fraction:
    found = raw[word]
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found - found != 0:
        raise GrammarError(f"{word} is a number, not {shown(found)}", f"{pointer}/{word}")
    return exact_number(found)


def _bound(
    raw: dict[str, Any], word: str, exclusive: str, pointer: str, draft: int, tighter: Callable[..., Any]
) -> Bound | None:
    flag = raw.get(exclusive)
    if isinstance(flag, bool):  # as draft 4 writes it
        return Bound(_number(raw, word, pointer), flag) if word in raw else None
    bounds = []
    if word in raw:
        bounds.append(Bound(_number(raw, word, pointer), False))
    if exclusive in raw:
        bounds.append(Bound(_number(raw, exclusive, pointer), True))
    if len(bounds) == 2 and bounds[0].value == bounds[1].value:
        return bounds[1]
    found: Bound | None = tighter(bounds, key=lambda bound: bound.value, default=None)
    return found
