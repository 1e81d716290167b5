"""Files that are truncated, mislabelled or made to do harm: one clear error each, and no memory taken for them."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from ramify.errors import BrokenModelFile, ModelError, UnsupportedModel
from ramify.runtime.text.tokenizer import load_tokenizer
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.gguf_file import read_gguf
from ramify.runtime.weights.locate import ModelFiles

from .gguf_files import write_gguf

U32, STRING, ARRAY = 4, 8, 9


def text(value: str | bytes, length: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def entry(key: str | bytes, kind: int = U32, value: bytes = b"\0\0\0\0") -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def tensor(
    name: str | bytes = "t",
    shape: tuple[int, ...] = (32,),
    kind: int = 0,
    offset: int = 0,
    rank: int | None = None,
) -> bytes:
    head = text(name) + struct.pack("<I", len(shape) if rank is None else rank)
    return head + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)


def file(
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    entry_count: int | None = None,
    data: int = 128,
) -> bytes:
    entries, tensors = entries or [], tensors or []
    head = magic + struct.pack("<I", version)
    head += struct.pack("<Q", len(tensors) if tensor_count is None else tensor_count)
    head += struct.pack("<Q", len(entries) if entry_count is None else entry_count)
    head += b"".join([*entries, *tensors])
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


HUGE = 2**63 - 1
CORRUPTIONS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "one byte": (b"G", "too short"),
    "wrong magic": (file(magic=b"GGML"), "not a GGUF file"),
    "a zip": (b"PK\x03\x04" + b"\0" * 100, "not a GGUF file"),
    "big-endian": (b"GGUF\0\0\0\x03" + b"\0" * 100, "version"),
    "version 0": (file(version=0), "version 0"),
    "version 99": (file(version=99), "version 99"),
    "tensor count of 2^63": (file(tensor_count=HUGE), "announces"),
    "entry count of 2^63": (file(entry_count=HUGE), "announces"),
    "more tensors than there are": (file(tensor_count=60_000), "tensor"),
    "more entries than there are": (file(entry_count=60_000), "metadata"),
    "key of 2^63 bytes": (file([text(b"k", HUGE)]), "string of"),
    "key past the end": (file([text(b"k", 60_000)]), "truncated"),
    "key that is not UTF-8": (file([entry(b"\xff\xfe")]), "UTF-8"),
    "the same key twice": (file([entry("k"), entry("k")]), "twice"),
    "unknown value type": (file([entry("k", 13)]), "value type 13"),
    "value type 2^32": (file([entry("k", 2**32 - 1)]), "value type"),
    "string of 2^63 bytes": (file([entry("k", STRING, text(b"", HUGE))]), "string of"),
    "string that is not UTF-8": (file([entry("k", STRING, text(b"\xc3\x28"))]), "UTF-8"),
    "array of 2^63 numbers": (file([entry("k", ARRAY, array(U32, HUGE))]), "truncated"),
    "array of 2^61 bytes that wraps around": (file([entry("k", ARRAY, array(U32, 2**62))]), "truncated"),
    "array of 2^63 strings": (file([entry("k", ARRAY, array(STRING, HUGE))]), "strings"),
    "array with a string past the end": (file([entry("k", ARRAY, array(STRING, 1, text(b"", 10**6)))]), "string 0"),
    "array with text that is not UTF-8": (file([entry("k", ARRAY, array(STRING, 1, text(b"\xff")))]), "not UTF-8"),
    "array of arrays": (file([entry("k", ARRAY, array(ARRAY, 1, array(U32, 0)))]), "unsupported value type"),
    "array of an unknown type": (file([entry("k", ARRAY, array(77, 1))]), "unsupported value type"),
    "alignment 0": (file([entry("general.alignment", U32, struct.pack("<I", 0))]), "alignment"),
    "alignment 3": (file([entry("general.alignment", U32, struct.pack("<I", 3))]), "alignment"),
    "alignment as text": (file([entry("general.alignment", STRING, text("32"))]), "alignment"),
    "tensor name of a megabyte": (file(tensors=[text(b"x" * 10**6)]), "string of"),
    "tensor name that is not UTF-8": (file(tensors=[tensor(b"\xff")]), "UTF-8"),
    "no dimensions": (file(tensors=[tensor(shape=())]), "0 dimensions"),
    "2^32 dimensions": (file(tensors=[tensor(rank=2**32 - 1)]), "dimensions"),
    "a dimension of 0": (file(tensors=[tensor(shape=(0,))]), "impossible shape"),
    "a dimension of 2^63": (file(tensors=[tensor(shape=(2**63,))]), "impossible shape"),
    "dimensions whose product wraps to 0": (file(tensors=[tensor(shape=(2**32, 2**32))]), "impossible shape"),
    "unknown tensor type": (file(tensors=[tensor(kind=250)]), "unknown type 250"),
    "removed tensor type": (file(tensors=[tensor(kind=4)]), "unknown type 4"),
    "unsupported tensor type": (file(tensors=[tensor(shape=(256,), kind=16)]), "IQ2_XXS"),
    "half a block": (file(tensors=[tensor(shape=(31,), kind=8)]), "block"),
    "offset between alignments": (file(tensors=[tensor(offset=7)]), "aligned"),
    "offset past the end": (file(tensors=[tensor(offset=2**40)]), "truncated or mislabelled"),
    "offset of 2^64 - 32": (file(tensors=[tensor(offset=2**64 - 32)]), "truncated or mislabelled"),
    "data cut off": (file(tensors=[tensor()], data=64), "truncated or mislabelled"),
    "overlapping tensors": (file(tensors=[tensor("a"), tensor("b", offset=32)], data=256), "overlaps"),
    "two tensors in one place": (file(tensors=[tensor("a"), tensor("b")], data=256), "overlaps"),
    "the same tensor twice": (file(tensors=[tensor("a"), tensor("a", offset=128)], data=256), "twice"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_hostile_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    raw, message = CORRUPTIONS[name]
    (tmp_path / "hostile.gguf").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises((BrokenModelFile, UnsupportedModel), match=message) as caught:
            read_gguf(tmp_path / "hostile.gguf")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("hostile.gguf: ")
    assert caught.value.__cause__ is None and len(str(caught.value)) < 400


def test_the_builder_of_hostile_files_can_build_a_sound_one(tmp_path: Path) -> None:
    raw = file([entry("k", ARRAY, array(STRING, 1, text("v")))], [tensor("a"), tensor("b", offset=128)], data=256)
    (tmp_path / "sound.gguf").write_bytes(raw)
    parsed = read_gguf(tmp_path / "sound.gguf")
    assert parsed.metadata == {"k": ["v"]} and list(parsed.tensors) == ["a", "b"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.gguf"
    write_gguf(path)
    load_tokenizer(open_checkpoint(ModelFiles("model", path)))
    return path.read_bytes()


def test_every_truncation_is_noticed(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    points = {*range(0, 2048, 7), *range(2048, len(sound) - 4096, 9973), *range(len(sound) - 512, len(sound), 31)}
    for length in sorted(points):
        path.write_bytes(sound[:length])
        with pytest.raises(BrokenModelFile, match=r"model\.gguf"):
            open_checkpoint(ModelFiles("model", path))


def test_flipped_bytes_load_or_are_refused(sound: bytes, tmp_path: Path) -> None:
    """Whatever a bit rot does to the tables, nothing but our own errors comes out."""
    path = tmp_path / "model.gguf"
    choose = random.Random(5)
    refused = 0
    for _ in range(600):
        raw = bytearray(sound)
        for _ in range(choose.choice((1, 1, 4))):
            raw[choose.randrange(2300)] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        path.write_bytes(raw)
        try:
            load_tokenizer(open_checkpoint(ModelFiles("model", path)))
        except ModelError:
            refused += 1
    assert refused > 200


TOKENIZERS: dict[str, tuple[dict[str, object], str]] = {
    "no tokens": ({"tokenizer.ggml.tokens": None}, "tokens is missing"),
    "tokens that are a number": ({"tokenizer.ggml.tokens": 7}, "tokens is missing"),
    "no merges": ({"tokenizer.ggml.merges": None}, "merges is missing"),
    "a merge of three": ({"tokenizer.ggml.merges": ["a b c"]}, "not a pair"),
    "a merge without a space": ({"tokenizer.ggml.merges": ["ab"]}, "not a pair"),
    "a merge of tokens that do not exist": ({"tokenizer.ggml.merges": ["x y"]}, "cannot be built"),
    "too few types": ({"tokenizer.ggml.token_type": [1, 1]}, "token_type must hold"),
    "the same token twice": ({"tokenizer.ggml.tokens": ["a"] * 24, "tokenizer.ggml.merges": ["a a"]}, "token"),
    "a token of a megabyte": ({"tokenizer.ggml.tokens": ["a" * 10**6, *"bcdefghijklmnopqrstuvwx"]}, "above"),
    "an unknown kind": ({"tokenizer.ggml.model": "wordpiece"}, "gpt2 and llama"),
    "an unknown pre-tokenizer": ({"tokenizer.ggml.pre": "from-the-future"}, "smollm"),
    "a BOS that does not exist": (
        {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 23_000},
        "bos_token_id|outside the vocabulary",
    ),
    "scores that are missing a token": (
        {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.5]},
        "scores must hold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_broken_vocabulary_is_one_clear_error(name: str, tmp_path: Path) -> None:
    metadata, message = TOKENIZERS[name]
    merges = metadata if "tokenizer.ggml.merges" in metadata else {**metadata, "tokenizer.ggml.merges": []}
    write_gguf(tmp_path / "model.gguf", metadata=merges)
    with pytest.raises((BrokenModelFile, UnsupportedModel), match=message) as caught:
        load_tokenizer(open_checkpoint(ModelFiles("model", tmp_path / "model.gguf")))
    assert "model.gguf" in str(caught.value)


@pytest.mark.parametrize("break_it", [lambda raw: raw[:-1], lambda raw: raw + b"\0"], ids=["shorter", "longer"])
def test_the_negative_control_of_truncation(sound: bytes, break_it: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """The file itself loads, and so it does with a byte more: it is the missing one that is noticed."""
    path = tmp_path / "model.gguf"
    path.write_bytes(break_it(sound))
    if len(break_it(sound)) < len(sound):
        with pytest.raises(BrokenModelFile, match="truncated"):
            open_checkpoint(ModelFiles("model", path))
    else:
        open_checkpoint(ModelFiles("model", path))
