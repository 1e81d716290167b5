"""Formats against jsonschema-rs: what walks through them spell is valid, and known texts are told apart."""

from __future__ import annotations

import json
import random

import jsonschema_rs
import pytest
from ramify.grammars.machine.lexemes import Lexemes
from ramify.grammars.schema.formats import FORMATS, format_expression
from ramify.grammars.schema.strings import accepts

TEXTS: dict[str, list[str]] = {
    "date": [
        "2020-02-29",
        "2021-02-29",
        "1900-02-29",
        "2000-02-29",
        "2024-04-31",
        "2024-4-3",
        "0000-01-01",
        "\uff12020-01-01",
    ],
    "time": ["23:59:59Z", "24:00:00Z", "12:00:00", "12:00:00.5+05:30", "23:59:60Z", "22:59:60Z", "12:00:00+24:00"],
    "date-time": [
        "2018-11-13T20:20:39+00:00",
        "2018-11-13t20:20:39.123z",
        "2018-11-13 20:20:39Z",
        "2018-02-30T00:00:00Z",
    ],
    "duration": ["P1Y2M3DT4H5M6S", "P1W", "P", "PT", "P1Y1D", "PT1H1S", "P1.5D", "P1WT1H"],
    "email": [
        "joe.bloggs@example.com",
        "joe@localhost",
        "joe",
        "@x",
        "a@-b.c",
        ".a@b.c",
        "a..b@c.d",
        '"a b"@c.d',
        "a@[127.0.0.1]",
    ],
    "idn-email": ["joe@example.com", "実例@実例.jp", "joe"],
    "hostname": [
        "example.com",
        "a",
        "-a",
        "a-",
        "a_b",
        "a" * 63,
        "a" * 64,
        "1.2",
        "ab--cd.org",
        "a..b",
        "www.a-b.co.uk",
        "",
    ],
    "idn-hostname": ["example.com", "実例.jp", "-a", ""],
    "ipv4": ["127.0.0.1", "256.0.0.1", "01.2.3.4", "1.2.3"],
    "ipv6": [
        "::1",
        "::",
        "1::",
        "1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "::ffff:1.2.3.4",
        "1::2::3",
        ":1",
        "12345::",
        "1:2:3:4:5:6:7:8:9",
    ],
    "uri": [
        "http://a.b/c?d#e",
        "urn:isbn:1",
        "http://[::1]:80/",
        "/a",
        "http://a b",
        "//a",
        "a:%zz",
        "mailto:a@b",
        "http://é",
    ],
    "uri-reference": ["/a", "a/b", "//a/b", "#f", "", "\\\\x", "a:b", "1a:b"],
    "iri": ["http://é.jp/ü?x#y", "é", "http://a b"],
    "iri-reference": ["é", "/é", "\\"],
    "uri-template": ["http://a/{b,c*}{?d:3}", "{", "a b", "{}", "x{+y}z", "{a:0}"],
    "uuid": [
        "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
        "2EB8AA08-AA98-11EA-B4AA-73B441D16380",
        "2eb8aa08aa9811eab4aa73b441d16380",
    ],
    "json-pointer": ["", "/a/b~0~1", "/~2", "a", "/a//"],
    "relative-json-pointer": ["0", "1/a", "0#", "01", "-1", "/a"],
    "regex": ["^a+(b|[c-])*$", "a{2,}", "(", "[", "a\\d\\.", "x|(?:y)", "a**", ")"],
}


def judge(name: str) -> jsonschema_rs.Validator:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "format": name}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


@pytest.mark.parametrize("name", FORMATS)
def test_known_texts(name: str) -> None:
    found = [accepts(format_expression(name, "utf8"), text.encode()) for text in TEXTS[name]]
    assert found == [judge(name).is_valid(text) for text in TEXTS[name]]
    assert True in found and False in found


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_valid(name: str) -> None:
    chance, lexemes, valid = random.Random(name), Lexemes(), judge(name)
    start = lexemes.add(format_expression(name, "written"))
    for length in (3, 10, 30, 90) * 10:
        state, text = start, bytearray()
        while not (lexemes.nullable[state] and len(text) >= length):
            bits = lexemes.onward(state)
            options = [byte for byte in range(256) if bits >> byte & 1]
            if not options:
                break
            plain = [byte for byte in options if 32 <= byte < 127 and byte != 92] or options
            if len(text) < length:
                text.append(chance.choice(plain if chance.random() < 0.9 else options))
            else:
                text.append(min(options, key=lambda byte: lexemes.shortest[lexemes.step(state, byte)]))
            state = lexemes.step(state, text[-1])
        spelled = json.loads(b'"' + bytes(text) + b'"')
        assert valid.is_valid(spelled), spelled
