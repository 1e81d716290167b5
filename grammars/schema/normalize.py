"""Terms to normal form: a subschema's keywords, taken apart by JSON type and put together again."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from ...errors import GrammarError, GrammarTooLarge
from .algebra import Algebra
from .document import APPLICATORS, Document
from .emptiness import Emptiness
from .keywords import Keywords
from .shapes import ALL_KEYS, EVERYTHING, NOTHING_AT_ALL, Arrays, Keys, Normal, Objects
from .terms import FALSE, TRUE, AllOf, AnyOf, Node, NotOf, Term, Terms, Value
from .values import value_normal

_MANY = 6  # shapes; beyond, those without values are looked for
DEEPEST = 100  # applicators within applicators, and references to references, without a value in between


class Normalizer:
    """Makes the normal form of every term of a document, each once; `emptiness` says which have no values at all."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.terms = Terms()
        self.annotated = bool(document.words & {"unevaluatedProperties", "unevaluatedItems"})
        self.algebra = Algebra(self.terms, absorbing=not self.annotated)
        self.keywords = Keywords(document, self.terms, self.annotated)
        self._known: dict[Term, Normal] = {TRUE: EVERYTHING, FALSE: NOTHING_AT_ALL}
        self._busy: dict[Term, None] = {}
        self.emptiness = Emptiness(self.terms, self.normal, self.target, self.algebra, self._busy)

    def normal(self, term: Term) -> Normal:
        """The normal form. GrammarError for what cannot be enforced, GrammarTooLarge for what is too much of it."""
        found = self._known.get(term)
        if found is not None:
            return found
        meaning = self.terms.meanings[term]
        if term in self._busy:
            path = meaning.pointer if isinstance(meaning, Node) else ""
            raise GrammarError("a reference that leads back to itself with no value in between", path)
        if len(self._busy) > DEEPEST:
            raise GrammarTooLarge(f"schemas applied to one value more than {DEEPEST} deep")
        self._busy[term] = None
        try:
            if isinstance(meaning, Node):
                found = self._node(meaning)
            elif isinstance(meaning, AllOf):
                found = EVERYTHING
                for one in meaning.terms:
                    found = self._conjunction(found, self.normal(one))
            elif isinstance(meaning, AnyOf):
                found = self.algebra.disjunction([self.normal(one) for one in meaning.terms])
            elif isinstance(meaning, NotOf):
                found = self.algebra.complement(self.normal(meaning.term), self._path(meaning.term))
            else:
                assert isinstance(meaning, Value)
                found = value_normal(meaning.value, meaning.pointer, self.terms)
        finally:
            del self._busy[term]
        self._known[term] = found
        return found

    def target(self, term: Term) -> Term:
        """Where a subschema leads that is nothing but a reference; any other term is its own target."""
        meaning = self.terms.meanings[term]
        if type(meaning) is not Node or "$ref" not in meaning.raw:
            return term
        passed = set[Term]()
        while term not in passed:
            passed.add(term)
            meaning = self.terms.meanings[term]
            if not isinstance(meaning, Node) or "$ref" not in meaning.raw:
                break
            resource = self.document.resource_of(meaning.raw, meaning.resource)
            if len(meaning.raw) > 1 and self.document.draft(resource) > 7 and not _ANNOTATIONS.issuperset(meaning.raw):
                break
            term = self._reference(meaning.raw, "$ref", resource, meaning.pointer)
        return term

    def _path(self, term: Term) -> str:
        meaning = self.terms.meanings[term]
        return meaning.pointer if isinstance(meaning, Node) else ""

    def _node(self, node: Node) -> Normal:
        raw, pointer = node.raw, node.pointer
        resource = self.document.resource_of(raw, node.resource)
        draft = self.document.draft(resource)
        if "$ref" in raw and draft <= 7:  # whose siblings are ignored
            return self.normal(self._reference(raw, "$ref", resource, pointer))
        found = self.keywords.own(raw, pointer, resource, draft)
        if "enum" in raw or "const" in raw:
            for values in self.keywords.values(raw, pointer, draft):
                found = self.algebra.conjunction(found, values)
        words = raw.keys() & APPLICATORS
        if not words:
            return found
        both = self._conjunction
        for word in ("$ref", "$dynamicRef", "$recursiveRef"):
            if word in words and (draft >= 2019 or word == "$ref"):
                found = both(found, self.normal(self._reference(raw, word, resource, pointer)))
        for one in self._list(raw, "allOf", pointer, resource):
            found = both(found, self.normal(one))
        if "anyOf" in words:
            found = both(found, self._any_of(self._list(raw, "anyOf", pointer, resource)))
        if "oneOf" in words:
            found = self._one_of(found, self._list(raw, "oneOf", pointer, resource), f"{pointer}/oneOf")
        if "not" in words:
            opposite = self.normal(self.terms.node(raw["not"], f"{pointer}/not", resource))
            found = both(found, self.algebra.complement(opposite, f"{pointer}/not"))
        if "if" in words and draft >= 7:
            found = both(found, self._conditional(raw, pointer, resource))
        for key, sub, path in self.keywords.dependent_schemas(raw, pointer, draft):
            found = both(found, self._dependent(key, self.terms.node(sub, path, resource)))
        if "unevaluatedProperties" in words and draft >= 2019:
            rest = self.terms.node(raw["unevaluatedProperties"], f"{pointer}/unevaluatedProperties", resource)
            found = found._replace(objects=tuple(_finish_object(shape, rest) for shape in found.objects))
        if "unevaluatedItems" in words and draft >= 2019:
            rest = self.terms.node(raw["unevaluatedItems"], f"{pointer}/unevaluatedItems", resource)
            found = found._replace(arrays=tuple(self._finish_array(shape, rest) for shape in found.arrays))
        return found

    def _reference(self, raw: dict[str, Any], word: str, resource: int, pointer: str) -> Term:
        reference = raw[word]
        if not isinstance(reference, str):
            raise GrammarError("a reference that is not a string", f"{pointer}/{word}")
        target = self.document.resolve(reference, resource, f"{pointer}/{word}", dynamic=word != "$ref")
        recurses = word == "$recursiveRef" and isinstance(target.raw, dict) and target.raw.get("$recursiveAnchor")
        if recurses and len(self.document.resources) > 1:
            raise GrammarError("a $recursiveRef to one of several anchors", f"{pointer}/{word}")
        return self.terms.node(target.raw, target.pointer, target.resource)

    def _list(self, raw: dict[str, Any], word: str, pointer: str, resource: int) -> list[Term]:
        listed = raw.get(word, [])
        if not isinstance(listed, list) or (word in raw and not listed):
            raise GrammarError(f"{word} is a list of schemas, at least one", f"{pointer}/{word}")
        return [self.terms.node(one, f"{pointer}/{word}/{place}", resource) for place, one in enumerate(listed)]

    def _any_of(self, options: list[Term]) -> Normal:
        parts = [self.normal(one) for one in options]
        if self.annotated and any(_has_annotations(part) for part in parts):
            # An instance takes the annotations of every option that it satisfies: each set of options is one way.
            if len(parts) > 6:
                raise GrammarTooLarge("anyOf with more than 6 options beside unevaluatedProperties or unevaluatedItems")
            for count in range(2, len(options) + 1):
                for chosen in combinations(range(len(options)), count):
                    together = EVERYTHING
                    for place in chosen:
                        together = self.algebra.conjunction(together, parts[place])
                    parts.append(together)
        return self.algebra.disjunction(parts)

    def _conjunction(self, left: Normal, right: Normal) -> Normal:
        """The values in both; when that splits a lot, without the shapes that have none."""
        found = self.algebra.conjunction(left, right)
        if len(found.objects) > _MANY:
            found = found._replace(objects=tuple(shape for shape in found.objects if self.emptiness.objects(shape)))
        if len(found.arrays) > _MANY:
            found = found._replace(arrays=tuple(shape for shape in found.arrays if self.emptiness.arrays(shape)))
        return found

    def _one_of(self, context: Normal, options: list[Term], path: str) -> Normal:
        """Exactly one: options that share no value are simply alternatives, the others exclude each other. `context`
        is what else holds: with it, more of them share none."""
        parts = [self.normal(one) for one in options]
        alone = [self._conjunction(context, part) for part in parts]
        found = alone[:]
        for first, left in enumerate(parts):
            for second in range(first + 1, len(parts)):
                right = parts[second]
                shared = self.emptiness.possible_part(self.algebra.conjunction(alone[first], right))
                if shared == NOTHING_AT_ALL:
                    continue
                apart = self.algebra.complement(_of_types(right, shared), path)
                found[first] = self._conjunction(found[first], apart)
                apart = self.algebra.complement(_of_types(left, shared), path)
                found[second] = self._conjunction(found[second], apart)
        return self.algebra.disjunction(found)

    def _conditional(self, raw: dict[str, Any], pointer: str, resource: int) -> Normal:
        if "then" not in raw and "else" not in raw and not self.annotated:
            return EVERYTHING
        condition = _by_presence(self.normal(self.terms.node(raw["if"], f"{pointer}/if", resource)))
        ways = []
        for word, given in (("then", condition), ("else", None)):
            given = self.algebra.complement(condition, f"{pointer}/if") if given is None else given
            follows = self.normal(self.terms.node(raw.get(word, True), f"{pointer}/{word}", resource))
            ways.append(self._conjunction(given, follows))
        return self.algebra.disjunction(ways)

    def _dependent(self, key: str, term: Term) -> Normal:
        """Every value but objects that have the key and do not satisfy the term."""
        follows = self.normal(term)
        if len(follows.objects) == 1 and follows.objects[0] == Objects(required=follows.objects[0].required):
            needs = tuple((key, needed) for needed in follows.objects[0].required if needed != key)
            return EVERYTHING._replace(objects=(Objects(needs=needs),))
        absent = EVERYTHING._replace(objects=(Objects(named=((key, FALSE),)),))
        present = Normal(objects=(Objects(required=(key,)),))
        return self.algebra.disjunction([absent, self.algebra.conjunction(present, follows)])

    def _finish_array(self, shape: Arrays, rest: Term) -> Arrays:
        """Elements that nothing evaluated satisfy `rest`."""
        if shape.seen is None:
            return shape
        rest = self.terms.any_of((*shape.seen_if, rest))
        prefix = shape.prefix + (shape.rest,) * (shape.seen - len(shape.prefix))
        prefix = prefix[: shape.seen] + tuple(self.terms.all_of((one, rest)) for one in prefix[shape.seen :])
        return shape._replace(prefix=prefix, rest=self.terms.all_of((shape.rest, rest)), seen=None, seen_if=())


def _of_types(normal: Normal, shared: Normal) -> Normal:
    """What it says of the types of which `shared` has values."""
    return Normal(
        normal.null if shared.null else False,
        normal.booleans if shared.booleans else frozenset(),
        normal.numbers if shared.numbers else (),
        normal.strings if shared.strings else (),
        normal.arrays if shared.arrays else (),
        normal.objects if shared.objects else (),
    )


def _by_presence(normal: Normal) -> Normal:
    """Objects with one condition on a member that may be absent, as two shapes: absent, and present. Many conditions
    on one key then exclude each other, where they would multiply."""
    found = []
    for shape in normal.objects:
        loose = [key for key, term in shape.named if key not in shape.required and term != FALSE]
        if len(loose) == 1:
            found.append(
                shape._replace(named=tuple((key, FALSE if key in loose else term) for key, term in shape.named))
            )
            shape = shape._replace(required=(*shape.required, *loose))
        found.append(shape)
    return normal._replace(objects=tuple(found))


_ANNOTATIONS = frozenset(("$ref", "title", "description", "$comment", "default", "examples", "deprecated"))


def _has_annotations(normal: Normal) -> bool:
    return any(shape.seen for shape in normal.objects) or any(
        shape.seen != 0 or shape.seen_if for shape in normal.arrays
    )


def _finish_object(shape: Objects, rest: Term) -> Objects:
    """Members that nothing evaluated satisfy `rest`."""
    if ALL_KEYS in shape.seen:
        return shape
    unseen = Keys(parts=shape.seen, inverted=True)
    return shape._replace(classes=(*shape.classes, (unseen, rest)), seen=(ALL_KEYS,))
