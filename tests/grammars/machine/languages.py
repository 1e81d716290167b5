"""The languages of expressions and programs as sets of short strings: slow, simple, and what the machine must do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ramify.grammars.expression import Both, ByteSet, Concat, Either, Expression, Not
from ramify.grammars.machine.machine import Machine
from ramify.grammars.machine.matcher import Matcher
from ramify.grammars.program import Array, Counted, Definition, Lexeme, Object, Program, Rules
from ramify.grammars.vocabulary import Vocabulary

Strings = frozenset[bytes]


def strings(alphabet: bytes, longest: int) -> Strings:
    """All of them."""
    return frozenset(bytes(one) for length in range(longest + 1) for one in product(alphabet, repeat=length))


def language(expression: Expression, alphabet: bytes, longest: int) -> Strings:
    """The strings over `alphabet` up to a length that an expression has."""

    def of(one: Expression) -> Strings:
        if isinstance(one, ByteSet):
            return frozenset(bytes([byte]) for byte in alphabet if one.bits >> byte & 1) if longest else frozenset()
        if isinstance(one, Concat):
            return joined([of(part) for part in one.parts], longest)
        if isinstance(one, Either):
            return frozenset().union(*map(of, one.parts))
        if isinstance(one, Both):
            first, *rest = map(of, one.parts)
            return first.intersection(*rest)
        if isinstance(one, Not):
            return strings(alphabet, longest) - of(one.inner)
        return repeated(of(one.inner), one.least, one.most, longest)

    return of(expression)


def joined(parts: list[Strings], longest: int) -> Strings:
    """One of each, in order."""
    found = frozenset({b""})
    for part in parts:
        found = frozenset(left + right for left in found for right in part if len(left) + len(right) <= longest)
    return found


def repeated(inner: Strings, least: int, most: int | None, longest: int) -> Strings:
    """`least` to `most` of them; after `longest` more, only empty ones can have been added."""
    found, now = frozenset[bytes](), frozenset({b""})
    for count in range(min(least + longest + 1, longest + 1 if most is None else most + 1, 3 * longest + 3)):
        if count >= least or (count > longest and b"" in inner):
            found |= now
        now = joined([now, inner], longest)
    return found


def languages(program: Program, alphabet: bytes, longest: int) -> list[Strings]:
    """The strings up to a length of every definition: the least fixed point."""
    definitions = [program.at(symbol) for symbol in range(len(program.definitions))]
    found: list[Strings] = [frozenset()] * len(definitions)
    while True:
        before = list(found)
        for symbol, definition in enumerate(definitions):
            found[symbol] |= _once(definition, found, alphabet, longest)
        if found == before:
            return found


def _once(definition: Definition, found: list[Strings], alphabet: bytes, longest: int) -> Strings:
    if isinstance(definition, Lexeme):
        return language(definition.expression, alphabet, longest)
    if isinstance(definition, Rules):
        ways = (joined([found[part] for part in way], longest) for way in definition.alternatives)
        return frozenset().union(*ways)
    if isinstance(definition, Counted):
        return _counted(definition, found, longest)
    bodies = _objects(definition, found) if isinstance(definition, Object) else _arrays(definition, found)
    opening, closing = found[definition.opening], found[definition.closing]
    return frozenset().union(*(joined([opening, *body, closing], longest) for body in bodies))


def _counted(definition: Counted, found: list[Strings], longest: int) -> Strings:
    item = found[definition.item]
    if definition.separator is None:
        return repeated(item, definition.least, definition.most, longest)
    more = joined([found[definition.separator], item], longest)
    most = None if definition.most is None else definition.most - 1
    rest = repeated(more, max(definition.least - 1, 0), most, longest) if most is None or most >= 0 else frozenset()
    return joined([item, rest], longest) | (frozenset({b""}) if definition.least == 0 else frozenset())


def _objects(definition: Object, found: list[Strings]) -> Iterator[list[Strings]]:
    """Every order of members (by index) and others (below zero) that the conditions allow, as parts to join."""
    members, others = definition.members, definition.others
    kinds = [*range(len(members)), *range(-1, -len(others) - 1, -1)]
    for length in range(5):
        for order in product(kinds, repeat=length):
            named = [one for one in order if one >= 0]
            counts = [order.count(-1 - index) for index in range(len(others))]
            good = (
                len(set(named)) == len(named)
                and length >= definition.least
                and (definition.most is None or length <= definition.most)
                and all(index in named for index, member in enumerate(members) if member.required)
                and all(members[index].needs <= set(named) for index in named)
                and all(
                    count >= one.least and (one.most is None or count <= one.most)
                    for count, one in zip(counts, others, strict=True)
                )
            )
            if definition.ordered:
                good = good and list(order) == sorted(named) + [one for one in order if one < 0]
                good = good and order[: len(named)] == tuple(named)
            if good:
                yield from _filled(definition, order, found)


def _filled(definition: Object, order: tuple[int, ...], found: list[Strings]) -> Iterator[list[Strings]]:
    """With keys written out, so that those that must be distinct are."""
    members, others = definition.members, definition.others
    pairs = [members[one] if one >= 0 else others[-1 - one] for one in order]
    for keys in product(*(found[pair.key] for pair in pairs)):
        free = [key for key, one in zip(keys, order, strict=True) if one < 0 and others[-1 - one].distinct]
        if len(set(free)) < len(free):
            continue
        body: list[Strings] = []
        for pair, key in zip(pairs, keys, strict=True):
            body += [found[definition.comma]] if body else []
            body += [frozenset({key}), found[definition.colon], found[pair.value]]
        yield body


def _arrays(definition: Array, found: list[Strings]) -> Iterator[list[Strings]]:
    for length in range(6):
        if length < definition.least or (definition.most is not None and length > definition.most):
            continue
        places = [
            definition.prefix[index] if index < len(definition.prefix) else definition.rest for index in range(length)
        ]
        for chosen in product(*places):
            counts = [sum(place.kind == kind for place in chosen) for kind in range(len(definition.kinds))]
            if not all(
                count >= kind.least and (kind.most is None or count <= kind.most)
                for count, kind in zip(counts, definition.kinds, strict=True)
            ):
                continue
            for values in product(*(found[place.value] for place in chosen)):
                if definition.unique and len(set(values)) < len(values):
                    continue
                body: list[Strings] = []
                for value in values:
                    body += [found[definition.comma]] if body else []
                    body.append(frozenset({value}))
                yield body


ONE_BYTE_EACH = Vocabulary([bytes([byte]) for byte in range(256)], [])


def matcher_of(program: Program, vocabulary: Vocabulary = ONE_BYTE_EACH) -> Matcher:
    """A matcher of the Python machine, whatever else there is."""
    return Matcher(Machine(program, vocabulary))


def check_against(matcher: Matcher, wanted: Strings, alphabet: bytes, longest: int, shorter: int) -> None:
    """`matcher` accepts exactly `wanted` (all strings up to `longest`), and every text of up to `shorter` bytes that it
    lets begin can be finished."""
    begun = {text[:length] for text in wanted for length in range(len(text) + 1)}
    level = {b"": matcher}
    if matcher.accepting != (b"" in wanted):
        raise AssertionError("the empty string")
    for length in range(1, longest + 1):
        following = {}
        for text, one in level.items():
            for byte in alphabet:
                more = text + bytes([byte])
                twin = one.copy()
                there = twin.accept_bytes(bytes([byte]))
                if not there and more in begun:
                    raise AssertionError(
                        f"{more!r} is refused, and begins {next(t for t in wanted if t[:length] == more)!r}"
                    )
                if there and twin.accepting != (more in wanted):
                    raise AssertionError(f"{more!r}: accepting {twin.accepting}")
                if there and more not in begun and length <= shorter and not finishes(twin, alphabet, 2 * longest):
                    raise AssertionError(f"{more!r} cannot be finished")
                if there and (more in begun or length <= shorter):
                    following[more] = twin
        level = following


def finishes(matcher: Matcher, alphabet: bytes, steps: int) -> bool:
    """Whether some text of at most so many more bytes is complete."""
    level = {id(matcher._trail[-1]): matcher}
    for _ in range(steps):
        if any(one.accepting for one in level.values()):
            return True
        following = {}
        for one in level.values():
            for byte in alphabet:
                twin = one.copy()
                if twin.accept_bytes(bytes([byte])):
                    following[id(twin._trail[-1])] = twin
        level = following
    return False
