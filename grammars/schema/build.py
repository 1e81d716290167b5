"""Normal forms to the definitions of a program, each made when it is first reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...errors import GrammarError, GrammarTooLarge
from ..expression import EMPTY, NOTHING, Expression
from ..program import Array, Definition, Kind, Lexeme, Member, Object, Others, Place, Program, Rules, Symbol
from .document import escape
from .elements import Elements
from .glance import certain, plain_type, plainly_possible
from .keywords import TYPES
from .layout import Layout
from .members import Members, Named, Variant
from .normalize import Normalizer
from .plain import SPECIAL, is_plain_array, plain_object, plain_words
from .shapes import EVERYTHING, Arrays, Normal, Objects
from .spelling import scalar_text
from .strings import ANY_STRING_TEXT, PatternRefused, name_text, quoted, words
from .terms import FALSE, TRUE, Node, Term

Maker = Callable[[], Definition]
Made = TypeVar("Made")


class Builder:
    """Writes a program. `ordered`: properties come in the order of the schema, others after them."""

    def __init__(self, normalizer: Normalizer, layout: Layout, ordered: bool, limit: int) -> None:
        self.program = Program([], 0, self._define)
        self._normalizer = normalizer
        self._emptiness = normalizer.emptiness
        self._members: Members = normalizer.emptiness.members
        self._elements = Elements(normalizer.terms, normalizer.emptiness)
        self._ordered = ordered
        self._limit = limit
        self._makers: dict[Symbol, Maker] = {}
        self._symbols: dict[object, Symbol] = {}
        self._terms: dict[Term, Symbol] = {}
        self._names: dict[str, Symbol] = {}
        self._document = normalizer.document
        self._special = SPECIAL & self._document.words
        self._costly = self._special | {"pattern", "format"}
        # 1.0 is an integer since draft 6, but whoever reads it gets a float: it is let in where texts are judged.
        self._dotted = not ordered and normalizer.document.draft(0) > 4
        self._layout = layout
        self._opening_object = self.lexeme(layout.opening_object)
        self._closing_object = self.lexeme(layout.closing_object)
        self._opening_array = self.lexeme(layout.opening_array)
        self._closing_array = self.lexeme(layout.closing_array)
        self._colon = self.lexeme(layout.colon)
        self._comma = self.lexeme(layout.comma)

    def start(self, term: Term) -> None:
        """Make the whole program a text of this term. GrammarError when nothing satisfies it."""
        if not self._is_plainly_possible(term) and self._explained(lambda: self._is_empty(term)):
            raise GrammarError("nothing satisfies this schema", self._pointer(term))
        value = self.term(term)
        self.program.at(value)
        if self._layout.edge == EMPTY:
            self.program.start = value
        else:
            edge = self.lexeme(self._layout.edge)
            self.program.start = self._new(("edge", value), lambda: Rules(((edge, value, edge),)))

    def lexeme(self, expression: Expression) -> Symbol:
        """The symbol of a regular language."""
        found = self._symbols.get(expression)
        if found is None:
            found = self._symbols[expression] = self._appended(Lexeme(expression))
        return found

    def term(self, term: Term) -> Symbol:
        """The symbol of the values that satisfy a term; its definition is made when it is reached."""
        known = self._terms.get(term)
        if known is None:
            term = self._normalizer.target(term)
            known = self._terms.get(term)
        if known is None:
            meaning = self._normalizer.terms.meanings[term]
            sure = term == TRUE or (type(meaning) is Node and certain(meaning.raw))
            plain = plain_type(meaning.raw) if sure and type(meaning) is Node else None
            known = self._terms[term] = self._appended(None) if plain is None else self._scalar(plain)
            if plain is None:
                self._makers[known] = lambda: self._located(term)
                if sure:
                    self.program.certain.add(known)
                elif type(meaning) is not Node or not (self._costly.isdisjoint(meaning.raw)):
                    self.program.costly.add(known)
        return known

    def _scalar(self, name: str) -> Symbol:
        """The symbol of all scalars of a type, of which there is one."""
        found = self._symbols.get(name)
        if found is None:
            found = self._symbols[name] = self._appended(Lexeme(scalar_text(TYPES[name], self._dotted)))
        return found

    def _key(self, name: str) -> Symbol:
        """The symbol of a member's key."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self.lexeme(name_text(name))
        return found

    def _new(self, key: object, maker: Maker) -> Symbol:
        found = self._symbols.get(key)
        if found is None:
            found = self._symbols[key] = self._appended(None)
            self._makers[found] = maker
        return found

    def _appended(self, definition: Definition | None) -> Symbol:
        if len(self.program.definitions) >= self._limit:
            raise GrammarTooLarge(f"a schema of more than {self._limit} definitions")
        self.program.definitions.append(definition)
        return len(self.program.definitions) - 1

    def _define(self, symbol: Symbol) -> Definition:
        made = self._explained(self._makers[symbol])
        del self._makers[symbol]
        return made

    def _explained(self, make: Callable[[], Made]) -> Made:
        """An error in a pattern is where the schema writes it."""
        try:
            return make()
        except PatternRefused as refused:
            where = self._normalizer.keywords.origins.get(refused.pattern, "")
            raise type(refused.error)(str(refused.error), where) from None

    def _pointer(self, term: Term) -> str:
        meaning = self._normalizer.terms.meanings[term]
        return meaning.pointer if isinstance(meaning, Node) else ""

    def _located(self, term: Term) -> Definition:
        """The definition of a term; an error that does not say where it is, is there."""
        try:
            if term == TRUE:
                return self._anything()
            meaning = self._normalizer.terms.meanings[term]
            if type(meaning) is Node and meaning.raw.keys().isdisjoint(self._special):
                made = self._plain(meaning)
                if made is not None:
                    return made
            return self._value(self._normalizer.normal(term))
        except GrammarError as error:
            if error.path:
                raise
            raise type(error)(str(error), self._pointer(term)) from None
        except RecursionError:
            raise GrammarTooLarge("a schema nested too deeply", self._pointer(term)) from None

    def _anything(self) -> Definition:
        """Any JSON value: what most schemas allow somewhere, and so not worked out again and again."""
        every = self.term(TRUE)
        scalars = self.lexeme(scalar_text(EVERYTHING, self._dotted))
        array = self._appended(self._written_array((), (Place(every),)))
        key = self.lexeme(ANY_STRING_TEXT)
        return Rules(
            ((scalars,), (array,), (self._appended(self._written((), (Others(key, every, distinct=False),))),))
        )

    def _is_empty(self, term: Term) -> bool:
        return self._emptiness.normal_is_empty(self._normalizer.normal(term))

    def _is_plainly_possible(self, term: Term) -> bool:
        meaning = self._normalizer.terms.meanings[term]
        plain = type(meaning) is Node and meaning.raw.get("type") in ("object", "array")
        return plain and type(meaning) is Node and plainly_possible(meaning.raw)

    def _plain(self, node: Node) -> Definition | None:
        """The same definition as by the normal form, of what is plain."""
        raw, pointer = node.raw, node.pointer
        if is_plain_array(raw):
            resource = self._document.resource_of(raw, node.resource)
            shape = self._normalizer.keywords.arrays(raw, pointer, resource, self._document.draft(resource))
            if shape is None:
                return Lexeme(NOTHING)
            if shape.prefix or shape.unique or shape.rest == FALSE:
                return self._array(shape)
            return self._written_array((), (Place(self.term(shape.rest)),), (), shape.least, shape.most)
        listed = plain_words(raw)
        if listed is not None:
            return Lexeme(quoted(words(tuple(listed), "written")))
        found = plain_object(raw)
        if found is None:
            return None
        resource = self._document.resource_of(raw, node.resource)
        members = []
        for key, sub, required in found.members:
            if certain(sub) and (scalar := plain_type(sub)):
                value = self._scalar(scalar)
            else:
                path = f"{pointer}/properties/{escape(key)}"
                value = self.term(self._normalizer.terms.node(sub, path, resource))
            members.append(Member(self._key(key), value, required))
        if found.rest is False:
            return self._written(tuple(members))
        rest = self._normalizer.terms.node(found.rest, f"{pointer}/additionalProperties", resource)
        names = frozenset([key for key, _, _ in found.members])
        others = self.lexeme(quoted(self._members.content((), names, "written")))
        return self._written(tuple(members), (Others(others, self.term(rest), distinct=False),))

    def _written(
        self, members: tuple[Member, ...], others: tuple[Others, ...] = (), least: int = 0, most: int | None = None
    ) -> Object:
        around = (self._opening_object, self._colon, self._comma, self._closing_object)
        return Object(*around, members, others, least, most, self._ordered)

    def _value(self, normal: Normal) -> Definition:
        scalars = scalar_text(normal, self._dotted)
        arrays = [one for shape in normal.arrays for one in self._elements.variants(shape)]
        objects = [one for shape in normal.objects for one in self._members.variants(shape)]
        makers: list[tuple[object, Maker]] = [(shape, lambda shape=shape: self._array(shape)) for shape in arrays]  # type: ignore[misc]
        makers += [(shape, lambda shape=shape: self._object(shape)) for shape in objects]  # type: ignore[misc]
        if not makers:
            return Lexeme(scalars)
        if is_nothing(scalars) and len(makers) == 1:
            return makers[0][1]()
        alternatives = [] if is_nothing(scalars) else [(self.lexeme(scalars),)]
        return Rules((*alternatives, *((self._new((type(key), key), maker),) for key, maker in makers)))

    def _object(self, variant: Variant) -> Definition:
        shape = variant.shape
        kept = self._allowed(shape, self._members.named(shape))
        places = {one.key: place for place, one in enumerate(kept)}
        if not places.keys() >= set(shape.required):
            return Lexeme(NOTHING)
        members = tuple(
            Member(
                self._key(one.key),
                self.term(one.term),
                one.required,
                frozenset(places[needed] for key, needed in shape.needs if key == one.key),
            )
            for one in kept
        )
        counted = shape.least > sum(one.required for one in kept)
        others = []
        for cell in variant.classes:
            key = self.lexeme(quoted(self._members.content(cell.within, variant.names, "written")))
            pinned = {term for within, term in variant.pinned if within == cell.within}
            most = self._members.most(variant, cell) if counted else None
            others.append(Others(key, self.term(cell.term), int(cell.term in pinned), most, counted))
            others += [Others(key, self.term(term), 1, most, counted) for term in sorted(pinned - {cell.term})]
        return self._written(members, tuple(others), shape.least, shape.most)

    def _allowed(self, shape: Objects, named: list[Named]) -> list[Named]:
        """The named members that may occur: neither forbidden themselves nor in need of one that is. (What turns out to
        be impossible, the machine does not offer.)"""
        kept = {one.key: one for one in named if one.term != FALSE}
        changed = bool(shape.needs)
        while changed:
            lost = {key for key, needed in shape.needs if key in kept and needed not in kept}
            for key in lost:
                del kept[key]
            changed = bool(lost)
        return list(kept.values())

    def _array(self, shape: Arrays) -> Definition:
        made = self._elements.places(shape)
        prefix = tuple(tuple(Place(self.term(term), kind) for term, kind in places) for places in made.prefix)
        rest = tuple(Place(self.term(term), kind) for term, kind in made.rest)
        kinds = tuple(Kind(one.least, one.most) for one in made.kinds)
        return self._written_array(prefix, rest, kinds, shape.least, made.most, shape.unique and made.most != 1)

    def _written_array(self, *fields: Any) -> Array:
        return Array(self._opening_array, self._comma, self._closing_array, *fields)


def is_nothing(expression: Expression) -> bool:
    """Whether it is written as the empty language."""
    return expression == NOTHING
