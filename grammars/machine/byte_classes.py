"""Partitions of the 256 bytes into classes that an expression never tells apart; each is kept once."""

from __future__ import annotations


class ByteClasses:
    """Partitions, numbered. Partition 0 has a single class.

    `maps[p][byte]` is the class of a byte, numbered in the order of their first bytes; `samples[p]` is the first byte
    of each class.
    """

    def __init__(self) -> None:
        self.maps: list[bytes] = []
        self.samples: list[tuple[int, ...]] = []
        self._numbers: dict[bytes, int] = {}
        self._refined: dict[tuple[int, int], int] = {}
        self._sets: dict[int, int] = {}
        self._number(bytes(256))

    def of_set(self, bits: int) -> int:
        """Those in the set, and those not."""
        found = self._sets.get(bits)
        if found is None:
            inside = [bits >> byte & 1 for byte in range(256)]
            found = self._sets[bits] = self._number(bytes(side ^ inside[0] for side in inside))
        return found

    def refine(self, one: int, other: int) -> int:
        """What either of them tells apart."""
        if one == other or other == 0:
            return one
        if one == 0:
            return other
        pair = (one, other) if one < other else (other, one)
        found = self._refined.get(pair)
        if found is None:
            seen: dict[tuple[int, int], int] = {}
            classes = [seen.setdefault(both, len(seen)) for both in zip(self.maps[one], self.maps[other], strict=True)]
            found = self._refined[pair] = self._number(bytes(classes))
        return found

    def _number(self, classes: bytes) -> int:
        found = self._numbers.get(classes)
        if found is None:
            found = self._numbers[classes] = len(self.maps)
            self.maps.append(classes)
            self.samples.append(tuple(classes.index(number) for number in range(max(classes) + 1)))
        return found
