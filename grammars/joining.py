"""What definitions refer to, and how to put programs together: the definitions of one among those of another."""

from __future__ import annotations

from dataclasses import replace

from .program import Counted, Definition, Lexeme, Object, Place, Program, Rules, Symbol


def embed(definitions: list[Definition | None], part: Program) -> Symbol:
    """Append all definitions of `part` (those not made yet are made now); the symbol where it starts."""
    offset = len(definitions)
    part.complete()
    definitions += [moved(definition, offset) for definition in part.definitions if definition is not None]
    return part.start + offset


def symbols(definition: Definition) -> tuple[Symbol, ...]:
    """Every symbol in a definition, some of them more than once."""
    if isinstance(definition, Lexeme):
        return ()
    if isinstance(definition, Rules):
        return tuple(symbol for sequence in definition.alternatives for symbol in sequence)
    if isinstance(definition, Counted):
        return (definition.item,) if definition.separator is None else (definition.item, definition.separator)
    if isinstance(definition, Object):
        around = (definition.opening, definition.colon, definition.comma, definition.closing)
        members = [symbol for member in definition.members for symbol in (member.key, member.value)]
        return (*around, *members, *(symbol for others in definition.others for symbol in (others.key, others.value)))
    places = [place for some in (*definition.prefix, definition.rest) for place in some]
    return (definition.opening, definition.comma, definition.closing, *(place.value for place in places))


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
