"""Safetensors directories: single and sharded, every type, nested names, and indexes or files that lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ramify.errors import BrokenModelFile, ModelError, ModelNotFound, UnsupportedModel
from ramify.runtime.weights.checkpoint import open_checkpoint
from ramify.runtime.weights.locate import locate
from ramify.runtime.weights.safetensors import SafetensorsWeights
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def some_tensors(kind: torch.dtype = torch.float32) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return {
        "model.embed_tokens.weight": torch.randn(6, 4, generator=generator).to(kind),
        "model.norm.weight": torch.randn(4, generator=generator).to(kind),
        "lm_head.weight": torch.randn(6, 4, generator=generator).to(kind),
    }


def save_sharded(directory: Path, tensors: Tensors) -> dict[str, str]:
    """One file for each tensor; returns the index's map, which is written too."""
    placed = {}
    for index, (name, tensor) in enumerate(tensors.items(), 1):
        file = f"model-{index:05}-of-{len(tensors):05}.safetensors"
        save_file({name: tensor}, directory / file)
        placed[name] = file
    write_index(directory, placed)
    return placed


def write_index(directory: Path, placed: object) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_type_comes_as_stored_and_as_fp32(kind: torch.dtype, sharded: bool, tmp_path: Path) -> None:
    tensors = some_tensors(kind)
    if sharded:
        save_sharded(tmp_path, tensors)
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    weights = SafetensorsWeights(tmp_path)
    assert set(weights.names()) == set(tensors)
    for name, expected in tensors.items():
        stored = weights.stored(name)
        assert name in weights and stored.shape == tuple(expected.shape)
        assert stored.format == {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[kind]
        assert torch.equal(stored.dense(), expected.float()) and stored.dense().dtype == torch.float32
        rows = expected.reshape(-1, expected.shape[-1]).view(torch.uint8).numpy()
        assert stored.rows().dtype == np.uint8 and np.array_equal(stored.rows(), rows)


def test_a_dense_tensor_is_a_copy_of_its_own(tmp_path: Path) -> None:
    save_file(some_tensors(), tmp_path / "model.safetensors")
    stored = SafetensorsWeights(tmp_path).stored("model.norm.weight")
    stored.dense().fill_(7)
    assert not (stored.dense() == 7).any()


def test_a_nested_text_model_has_the_plain_names(tmp_path: Path) -> None:
    for prefix, head in (("model.language_model.", "lm_head."), ("language_model.model.", "language_model.lm_head.")):
        tensors = {
            prefix + "norm.weight": torch.ones(4),
            head + "weight": torch.ones(6, 4),
            "vision_tower.x": torch.ones(1),
        }
        save_file(tensors, tmp_path / "model.safetensors")
        assert set(SafetensorsWeights(tmp_path).names()) == {"model.norm.weight", "lm_head.weight", "vision_tower.x"}


def test_a_missing_parameter_and_an_unknown_type(tmp_path: Path) -> None:
    save_file({"a": torch.ones(4, dtype=torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    weights = SafetensorsWeights(tmp_path)
    with pytest.raises(UnsupportedModel, match="F8_E4M3"):
        weights.stored("a")
    with pytest.raises(BrokenModelFile, match="no tensor for b"):
        weights.stored("b")


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..\\model.safetensors", ".."),
        *("model.bin", "", "C:\\x.safetensors", "../../x/model.safetensors", "nul\0.safetensors/../x"),
    ],
)
def test_an_index_cannot_reach_outside_its_directory(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    save_file({"secret": torch.ones(1)}, tmp_path / "model.safetensors")
    write_index(inside, {"secret": name})
    with pytest.raises(BrokenModelFile, match="same directory"):
        SafetensorsWeights(inside)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ("", BrokenModelFile, "not valid JSON"),
        ("[]", BrokenModelFile, "JSON object"),
        ("{}", BrokenModelFile, "weight_map is missing"),
        ('{"weight_map": []}', BrokenModelFile, "must be a mapping"),
        ('{"weight_map": {"a": 1}}', BrokenModelFile, "must be text"),
        ('{"weight_map": {"a": "gone.safetensors"}}', ModelNotFound, r"gone\.safetensors"),
        ("[" * 100_000, BrokenModelFile, "not valid JSON"),
        ('{"weight_map": {"other": "model-00001-of-00003.safetensors"}}', BrokenModelFile, "does not hold it"),
    ],
)
def test_an_index_that_lies(index: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    save_sharded(tmp_path, some_tensors())
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(error, match=message):
        SafetensorsWeights(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedModel, match="never opens them"):
        SafetensorsWeights(tmp_path)


def test_a_directory_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"model\.safetensors"):
        SafetensorsWeights(tmp_path)


def header(table: object, length: int | None = None, data: bytes = b"\0" * 64) -> bytes:
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: list[int], begin: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "a header of 2^63 bytes": header({}, 2**63),
    "a header of 2^64 - 8 bytes": header({}, 2**64 - 8),
    "a header longer than the file": header({}, 10_000),
    "no JSON": header(b"{nonsense", None),
    "JSON that is not UTF-8": header(b'{"\xff": 1}'),
    "nested beyond bounds": header(b"[" * 50_000),
    "a pickle": b"\x80\x04\x95" + b"\0" * 100,
    "offsets past the end": header({"a": entry([1024], 0, 4096)}),
    "offsets backwards": header({"a": entry([16], 64, 0)}),
    "offsets that disagree with the shape": header({"a": entry([15], 0, 64)}),
    "a shape whose product wraps": header({"a": entry([2**33, 2**33], 0, 64)}),
    "negative shape": header({"a": entry([-16], 0, 64)}),
    "overlapping": header({"a": entry([16], 0, 64), "b": entry([8], 32, 64)}),
    "a hole": header({"a": entry([8], 32, 64)}),
    "unknown type": header({"a": entry([16], 0, 64, "F99")}),
    "an entry that is a number": header({"a": 1}),
    "bytes nobody describes": header({"a": entry([8], 0, 32)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(BrokenModelFile, match=r"^model\.safetensors: ") as caught:
        SafetensorsWeights(tmp_path)
    assert len(str(caught.value)) < 400


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    save_file(some_tensors(), tmp_path / "model.safetensors")
    raw = (tmp_path / "model.safetensors").read_bytes()
    SafetensorsWeights(tmp_path)
    for length in range(len(raw)):
        (tmp_path / "model.safetensors").write_bytes(raw[:length])
        with pytest.raises(BrokenModelFile):
            SafetensorsWeights(tmp_path)


def test_a_whole_directory_opens(tiny_model: Path) -> None:
    checkpoint = open_checkpoint(locate(tiny_model))
    assert checkpoint.config.architecture == "llama" and checkpoint.gguf is None
    assert checkpoint.weights.stored("model.norm.weight").shape == (checkpoint.config.hidden_size,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(num_hidden_layers=3), r"no tensor for model\.layers\.2"),
        (lambda config: config.update(vocab_size=config["vocab_size"] + 1), "calls for"),
        (lambda config: config.update(hidden_size=128), "calls for"),
        (lambda config: config.update(attention_bias=True), "no tensor for .*bias"),
        (lambda config: config.update(num_hidden_layers=2**40), "num_hidden_layers"),
        (lambda config: config.update(vocab_size=2**30), "vocab_size"),
        (lambda config: config.pop("model_type"), "model_type is missing"),
    ],
)
def test_a_config_that_does_not_fit_the_weights(
    change: Callable[[dict[str, Any]], object], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        open_checkpoint(locate(tmp_path))
