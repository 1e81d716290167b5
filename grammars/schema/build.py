"""Normal forms to the definitions of a program, each made when it is first reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...errors import GrammarError, GrammarTooLarge
from ..expression import EMPTY, NOTHING, Expression, either, literal
from ..program import Array, Definition, Kind, Lexeme, Member, Object, Others, Place, Program, Rules, Symbol
from .elements import Elements
from .emptiness import certain, plain_type
from .layout import Layout
from .members import Members, Named, Variant
from .normalize import Normalizer
from .numbers import number_text
from .shapes import Arrays, Normal, Objects
from .strings import PatternRefused, content, name_text, quoted
from .terms import FALSE, Node, Term

_TRUE, _FALSE, _NULL = literal(b"true"), literal(b"false"), literal(b"null")
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
        if self._explained(lambda: self._emptiness.normal_is_empty(self._normalizer.normal(term))):
            raise GrammarError("nothing satisfies this schema", self._pointer(term))
        value = self.term(term)
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
        term = self._normalizer.target(term)
        known = self._symbols.get(("term", term))
        if known is not None:
            return known
        meaning = self._normalizer.terms.meanings[term]
        sure = isinstance(meaning, Node) and certain(meaning.raw)
        if isinstance(meaning, Node) and sure and (plain := plain_type(meaning.raw)):
            symbol = self._new(("type", plain), lambda: self._located(term, self._value))
            self._symbols["term", term] = symbol
            return symbol
        symbol = self._new(("term", term), lambda: self._located(term, self._value))
        if sure:
            self.program.certain.add(symbol)
        return symbol

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

    def _located(self, term: Term, make: Callable[[Normal], Definition]) -> Definition:
        """An error that does not say where it is, is at the term."""
        try:
            return make(self._normalizer.normal(term))
        except GrammarError as error:
            if error.path:
                raise
            raise type(error)(str(error), self._pointer(term)) from None
        except RecursionError:
            raise GrammarTooLarge("a schema nested too deeply", self._pointer(term)) from None

    def _value(self, normal: Normal) -> Definition:
        scalars = self._scalars(normal)
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

    def _scalars(self, normal: Normal) -> Expression:
        parts = [_NULL] if normal.null else []
        parts += [_TRUE if one else _FALSE for one in normal.booleans]
        parts += [number_text(shape, self._dotted) for shape in normal.numbers]
        parts += [quoted(content(shape, "written")) for shape in normal.strings]
        return either(parts)

    def _object(self, variant: Variant) -> Definition:
        shape = variant.shape
        kept = self._allowed(shape, self._members.named(shape))
        places = {one.key: place for place, one in enumerate(kept)}
        if not places.keys() >= set(shape.required):
            return Lexeme(NOTHING)
        members = tuple(
            Member(
                self.lexeme(name_text(one.key)),
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
        return Object(
            self._opening_object,
            self._colon,
            self._comma,
            self._closing_object,
            members,
            tuple(others),
            shape.least,
            shape.most,
            self._ordered,
        )

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
        return Array(
            self._opening_array,
            self._comma,
            self._closing_array,
            prefix,
            rest,
            kinds,
            shape.least,
            made.most,
            shape.unique and made.most != 1,
        )


def is_nothing(expression: Expression) -> bool:
    """Whether it is written as the empty language."""
    return expression == NOTHING
