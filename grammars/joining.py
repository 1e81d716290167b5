"""Puts programs together: the definitions of one among those of another."""

from __future__ import annotations

from dataclasses import replace

from .program import Counted, Definition, Lexeme, Object, Place, Program, Rules, Symbol


def embed(definitions: list[Definition | None], part: Program) -> Symbol:
    """Append all definitions of `part` (those not made yet are made now); the symbol where it starts."""
    offset = len(definitions)
    part.complete()
    definitions += [moved(definition, offset) for definition in part.definitions if definition is not None]
    return part.start + offset


def moved(definition: Definition, by: int) -> Definition:
    """The definition with every symbol in it larger by `by`."""
    if isinstance(definition, Lexeme):
        return definition
    if isinstance(definition, Rules):
        return Rules(tuple(tuple(symbol + by for symbol in sequence) for sequence in definition.alternatives))
    if isinstance(definition, Counted):
        separator = None if definition.separator is None else definition.separator + by
        return replace(definition, item=definition.item + by, separator=separator)
    if isinstance(definition, Object):
        return replace(
            definition,
            opening=definition.opening + by,
            colon=definition.colon + by,
            comma=definition.comma + by,
            closing=definition.closing + by,
            members=tuple(replace(one, key=one.key + by, value=one.value + by) for one in definition.members),
            others=tuple(replace(one, key=one.key + by, value=one.value + by) for one in definition.others),
        )
    return replace(
        definition,
        opening=definition.opening + by,
        comma=definition.comma + by,
        closing=definition.closing + by,
        prefix=tuple(_places(places, by) for places in definition.prefix),
        rest=_places(definition.rest, by),
    )


def _places(places: tuple[Place, ...], by: int) -> tuple[Place, ...]:
    return tuple(replace(place, value=place.value + by) for place in places)
