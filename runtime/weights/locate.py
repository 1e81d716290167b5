"""Turns the name of a model, as a user gives it, into files on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from ...errors import ModelNotFound, UnsupportedModel
from .embedded import SMOLLM2, embedded_model
from .safetensors import PICKLED_SUFFIXES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# No code and no pickles, and not the second copy of the weights that some repositories carry.
_HUB_FILES = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
)
_WAYS = f'give "{SMOLLM2.name}", a directory with config.json, a .gguf file, or a hub id like organisation/name'


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies."""

    name: str  # as people know it
    path: Path  # a .gguf file, or a directory with config.json and safetensors

    @property
    def is_gguf(self) -> bool:
        return self.path.is_file()


def locate(model: str | Path, *, progress: bool = True) -> ModelFiles:
    """Find a model, fetching it where that is possible. Raises ModelNotFound or UnsupportedModel.

    "smollm2" is the embedded model; a hub id is fetched through huggingface_hub, or taken from its cache offline.
    """
    if model == SMOLLM2.name:
        return ModelFiles(SMOLLM2.name, embedded_model(progress=progress))
    text = str(model)
    if not text or "\0" in text:
        raise ModelNotFound(f"{text!r} is no model; {_WAYS}")
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return _in_directory(path)
        if path.is_file():
            return _file(path)
    except (OSError, RuntimeError) as error:  # a name too long, a place that may not be read, an unknown ~user
        raise ModelNotFound(f"cannot look for a model at {text[:200]!r}: {str(error)[:100]}; {_WAYS}") from None
    if isinstance(model, str) and _HUB_ID.fullmatch(model) and not model.lower().endswith((".gguf", ".safetensors")):
        return _from_hub(model)
    raise ModelNotFound(f"there is no model at {text[:200]!r}; {_WAYS}")


def _file(path: Path) -> ModelFiles:
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise UnsupportedModel(
            f"{path.name}: a pickled checkpoint, which can run code when it is read; ramify never opens them. "
            "Convert the model to safetensors or GGUF"
        )
    if path.suffix.lower() == ".safetensors":
        raise UnsupportedModel(f"{path.name}: give the directory that holds it together with config.json")
    with path.open("rb") as file:
        if path.suffix.lower() != ".gguf" and file.read(4) != b"GGUF":
            raise UnsupportedModel(f"{path.name}: neither a .gguf file nor a directory; {_WAYS}")
    return ModelFiles(path.stem, path)


def _in_directory(path: Path) -> ModelFiles:
    if (path / "config.json").is_file():
        return ModelFiles(path.resolve().name, path)
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return _file(found[0])
    if found:
        names = ", ".join(file.name for file in found[:8])
        raise ModelNotFound(f"{path.name}: several models ({names}); give the path of one of them")
    raise ModelNotFound(f"{path}: a directory without config.json and without a .gguf file; {_WAYS}")


def _from_hub(name: str) -> ModelFiles:
    try:
        path = Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except GatedRepoError:
        raise ModelNotFound(f"{name}: the hub wants its terms accepted first; do that there and log in") from None
    except RepositoryNotFoundError:
        raise ModelNotFound(f"{name}: the hub has no such model, or it is private; check the spelling") from None
    except Exception as error:  # whatever the network does: what matters is that the files are not here
        raise ModelNotFound(
            f"{name}: not in the local Hugging Face cache, and it could not be fetched ({type(error).__name__}). "
            "Go online once, or give the path of a directory or a .gguf file"
        ) from error
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{name}: without config.json in the local cache or on the hub; it is no model for ramify")
    return ModelFiles(name, path)
