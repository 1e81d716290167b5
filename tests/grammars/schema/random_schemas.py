"""Random schemas over a small world of keys and values, random values of that world, and walks through a grammar."""

from __future__ import annotations

import json
import random
from typing import Any

from ramify.grammars.machine.machine import Machine
from ramify.grammars.vocabulary import Vocabulary

KEYS = ["a", "b", "c", "ab"]
SCALARS = [None, True, False, 0, 1, 2, 3, -1, 2.5, 0.5, 10, "", "a", "b", "ab", "abc", "é", "2020-01-31", "x@y.z"]
PATTERNS = ["^a", "b$", "^[ab]*$", "a|c", "^.{1,2}$", "b"]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
BYTES = Vocabulary([bytes([byte]) for byte in range(256)], [])


class Schemas:
    """Makes schemas. `definitions`: names that `$ref` may lead to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def document(self) -> Any:
        """A whole schema, sometimes with definitions that refer to each other."""
        schema = self.schema(3)
        if isinstance(schema, dict) and "$defs" in json.dumps(schema):
            schema["$defs"] = {name: self.schema(2) for name in ("p", "q")}
        return schema

    def schema(self, depth: int) -> Any:
        """A schema of at most that depth."""
        chance = self.chance
        if chance.random() < 0.06:
            return chance.random() < 0.7
        found: dict[str, Any] = {}
        if chance.random() < 0.6:
            found["type"] = chance.choice(TYPES) if chance.random() < 0.75 else chance.sample(TYPES, 2)
        makers = [self.numbers, self.strings, self.constants]
        if depth > 0:
            makers += [self.arrays, self.objects, self.objects, self.combined, self.combined]
        for make in chance.sample(makers, chance.choice([1, 1, 2])):
            found.update(make(depth - 1))
        return found

    def numbers(self, depth: int) -> dict[str, Any]:
        """Keywords of numbers."""
        chance = self.chance
        words = chance.sample(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"], 2)
        return {
            w: chance.choice([1, 2, 3, 0.5]) if w == "multipleOf" else chance.choice([-1, 0, 1, 2, 2.5]) for w in words
        }

    def strings(self, depth: int) -> dict[str, Any]:
        """Keywords of strings."""
        chance = self.chance
        options: dict[str, Any] = {
            "minLength": chance.randint(0, 2),
            "maxLength": chance.randint(0, 3),
            "pattern": chance.choice(PATTERNS),
            "format": chance.choice(["date", "email", "ipv4", "unknown"]),
        }
        return {word: options[word] for word in chance.sample(list(options), chance.choice([1, 1, 2]))}

    def constants(self, depth: int) -> dict[str, Any]:
        """`const` or `enum`."""
        chance = self.chance
        if chance.random() < 0.3:
            return {"const": value(chance, 1)}
        return {"enum": [value(chance, 1) for _ in range(chance.randint(1, 4))]}

    def arrays(self, depth: int) -> dict[str, Any]:
        """Keywords of arrays."""
        chance = self.chance
        options: dict[str, Any] = {
            "items": self.schema(depth),
            "prefixItems": [self.schema(depth) for _ in range(chance.randint(1, 2))],
            "minItems": chance.randint(0, 2),
            "maxItems": chance.randint(0, 3),
            "contains": self.schema(depth),
            "uniqueItems": chance.random() < 0.5,
            "unevaluatedItems": self.schema(0),
        }
        found = {word: options[word] for word in chance.sample(list(options), chance.choice([1, 2, 3]))}
        if "contains" in found and chance.random() < 0.5:
            found["minContains"] = chance.randint(0, 2)
            found["maxContains"] = chance.randint(1, 3)
        return found

    def objects(self, depth: int) -> dict[str, Any]:
        """Keywords of objects."""
        chance = self.chance
        options: dict[str, Any] = {
            "properties": {key: self.schema(depth) for key in chance.sample(KEYS, chance.randint(1, 3))},
            "patternProperties": {chance.choice(PATTERNS): self.schema(depth) for _ in range(chance.randint(1, 2))},
            "additionalProperties": self.schema(min(depth, 1)) if chance.random() < 0.6 else False,
            "propertyNames": self.schema(0),
            "required": chance.sample(KEYS, chance.randint(1, 2)),
            "minProperties": chance.randint(0, 2),
            "maxProperties": chance.randint(0, 3),
            "dependentRequired": {chance.choice(KEYS): chance.sample(KEYS, chance.randint(1, 2))},
            "dependentSchemas": {chance.choice(KEYS): self.schema(depth)},
            "unevaluatedProperties": False if chance.random() < 0.6 else self.schema(0),
        }
        found = {word: options[word] for word in chance.sample(list(options), chance.choice([1, 2, 2, 3, 4]))}
        if "properties" not in found and chance.random() < 0.5:
            found["properties"] = options["properties"]
        return found

    def combined(self, depth: int) -> dict[str, Any]:
        """Schemas applied to the same value."""
        chance = self.chance
        word = chance.choice(["allOf", "anyOf", "oneOf", "not", "if", "$ref"])
        if word == "$ref":
            return {"$ref": chance.choice(["#", "#/$defs/p", "#/$defs/q", "#/$defs/p"])}
        if word == "not":
            return {"not": self.schema(depth)}
        if word == "if":
            found = {"if": self.schema(depth)}
            found.update({w: self.schema(depth) for w in chance.sample(["then", "else"], chance.randint(1, 2))})
            return found
        return {word: [self.schema(depth) for _ in range(chance.randint(1, 3))]}


def value(chance: random.Random, depth: int) -> Any:
    """A JSON value of at most that depth."""
    kind = chance.random()
    if depth == 0 or kind < 0.45:
        return chance.choice(SCALARS)
    if kind < 0.65:
        return [value(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    keys = chance.sample(KEYS, chance.randint(0, 3))
    return {key: value(chance, depth - 1) for key in keys}


def walk(machine: Machine, chance: random.Random, soft: int = 60, hard: int = 800) -> bytes | None:
    """A random text of the language, steered to its end after `soft` bytes; None when it did not end in `hard`.

    AssertionError where the machine leads into a place with no way on.
    """
    earley, state, text = machine._earley, machine.initial, bytearray()
    closing = b'"}]'
    while len(text) < hard:
        bits = earley.onward(state)
        if state.accepting and (not bits or chance.random() < 0.5 or len(text) > soft):
            return bytes(text)
        assert bits, f"stuck after {bytes(text)!r}"
        options = [byte for byte in range(256) if bits >> byte & 1]
        plain = [byte for byte in options if byte < 127 and byte != 92]
        if plain and chance.random() < 0.95:
            options = plain
        ends = [byte for byte in options if byte in closing]
        if ends and len(text) > soft:
            options = [max(ends, key=closing.index)]
        elif ends and chance.random() < 0.25:
            options = ends
        if len(text) > soft and len(options) > 1:
            options = [byte for byte in options if byte != 44] or options
        text.append(chance.choice(options))
        following = earley.step(state, text[-1])
        assert following is not None
        state = following
    return None


def spelled(instance: Any) -> bytes:
    """As json.dumps writes it."""
    return json.dumps(instance).encode()
