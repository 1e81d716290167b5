"""Parameters out of one or several safetensors files, by Hugging Face's names.

The safetensors package checks the files' tables (sizes, overlaps, bounds) and maps them; nothing is copied before it
is asked for. Pickled checkpoints are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...errors import BrokenModelFile, ModelNotFound, UnsupportedModel
from ...kernels.ops import Bytes, Stored
from .fields import Fields

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_JSON_BYTES = 1 << 26
_FORMATS = ("F32", "F16", "BF16")
# Models with a vision tower nest the text model, in two ways.
_PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
)


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes. Raises BrokenModelFile naming the file."""
    try:
        if path.stat().st_size > limit:
            raise BrokenModelFile(f"{path.name}: larger than {limit} bytes, so it is not what its name says")
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BrokenModelFile(f"{path.name}: not valid JSON ({str(error)[:100]})") from None
    if not isinstance(value, dict):
        raise BrokenModelFile(f"{path.name}: must hold a JSON object, not {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """One parameter of a safetensors file; see kernels.ops.Stored."""

    path: Path
    handle: Any  # the package's open file
    name: str
    shape: tuple[int, ...]
    format: str

    def rows(self) -> Bytes:
        values = self._values()
        columns = values.reshape(-1, self.shape[-1]) if len(self.shape) > 1 else values.reshape(1, -1)
        rows: Bytes = columns.view(torch.uint8).numpy()
        return rows

    def dense(self) -> torch.Tensor:
        values = self._values()
        return values.to(torch.float32) if values.dtype != torch.float32 else values.clone()

    def _values(self) -> torch.Tensor:
        """The mapped tensor itself."""
        with _naming(self.path):
            values: torch.Tensor = self.handle.get_tensor(self.name)
            return values


class SafetensorsWeights:
    """A WeightSource over a directory with model.safetensors, or shards and their index."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tensors: dict[str, SafetensorsTensor] = {}
        for path, wanted in _shards(directory).items():
            with _naming(path):
                handle: Any = safe_open(path, framework="pt", device="cpu")
                held = set(handle.keys())
            missing = sorted((wanted or held) - held)
            if missing:
                raise BrokenModelFile(f"{path.name}: the index places {missing[0]} here, but the file does not hold it")
            for name in wanted or held:
                self._add(path, handle, name)

    def names(self) -> Iterable[str]:
        return self._tensors.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def stored(self, name: str) -> Stored:
        if name not in self._tensors:
            raise BrokenModelFile(f"{self._directory.name}: there is no tensor for {name} in its safetensors files")
        tensor = self._tensors[name]
        if tensor.format not in _FORMATS:
            raise UnsupportedModel(
                f"{tensor.path.name}: {name} is stored as {tensor.format}; ramify reads {', '.join(_FORMATS)}"
            )
        return tensor

    def _add(self, path: Path, handle: Any, name: str) -> None:
        with _naming(path):
            table = handle.get_slice(name)
            shape, stored_as = tuple(table.get_shape()), str(table.get_dtype())
        ours = name
        for prefix, replacement in _PREFIXES:
            ours = replacement + name.removeprefix(prefix) if name.startswith(prefix) else ours
        if ours in self._tensors:
            raise BrokenModelFile(f"{path.name}: two tensors would be {ours}")
        self._tensors[ours] = SafetensorsTensor(path, handle, name, shape, stored_as)


def _shards(directory: Path) -> dict[Path, set[str]]:
    """The files to open and the tensors expected in each (none named: all that it holds)."""
    index = directory / INDEX_NAME
    if (directory / SINGLE_NAME).is_file():
        return {directory / SINGLE_NAME: set()}
    if not index.is_file():
        raise _no_weights(directory)
    table = Fields(read_json(index), INDEX_NAME).inner("weight_map")
    if table is None or not table.values:
        raise BrokenModelFile(f"{INDEX_NAME}: weight_map is missing or empty")
    shards: dict[Path, set[str]] = {}
    for name in table.values:
        file_name = table.text(name)
        # a plain name only: an index must not reach outside its own directory
        if file_name != Path(file_name).name or "\\" in file_name or not file_name.endswith(".safetensors"):
            raise table.wrong(name, file_name, "the name of a .safetensors file in the same directory")
        shards.setdefault(directory / file_name, set()).add(name)
    for path in shards:
        if not path.is_file():
            raise ModelNotFound(f"{path.name}: named by {INDEX_NAME}, but not in the directory; fetch the model again")
    return shards


def _no_weights(directory: Path) -> Exception:
    pickled = [path.name for path in directory.iterdir() if path.suffix in PICKLED_SUFFIXES]
    if pickled:
        return UnsupportedModel(
            f"{directory.name}: only pickled weights ({sorted(pickled)[0]}), which can run code when they are read; "
            "ramify never opens them. Convert the model to safetensors or GGUF"
        )
    return ModelNotFound(f"{directory.name}: holds neither {SINGLE_NAME} nor {INDEX_NAME}")


PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn the package's errors into ours, with the file's name."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise BrokenModelFile(f"{path.name}: {str(error)[:200]}. Fetch or convert the file again") from None
