"""From what a user writes to files, with the hub replaced by a fake: found, fetched, or told what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import pytest
from ramify.errors import ModelNotFound, UnsupportedModel
from ramify.runtime.weights import locate as module
from ramify.runtime.weights.locate import ModelFiles, locate

Snapshot = Callable[..., str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Snapshot], None]:
    """Replaces the hub's download by a function of the test's."""

    def use(snapshot: Snapshot) -> None:
        monkeypatch.setattr(module, "snapshot_download", snapshot)

    return use


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert locate(tmp_path) == ModelFiles(tmp_path.name, tmp_path)
    assert locate(str(tmp_path)).is_gguf is False


def test_a_gguf_file_by_name_by_content_or_alone_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "some.model").write_bytes(b"GGUF....")
    assert locate(tmp_path / "some.model") == ModelFiles("some", tmp_path / "some.model")
    (tmp_path / "model.gguf").write_bytes(b"anything: the reader will say")
    assert locate(tmp_path / "model.gguf").is_gguf
    assert locate(tmp_path) == ModelFiles("model", tmp_path / "model.gguf")
    (tmp_path / "second.gguf").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"model\.gguf, second\.gguf"):
        locate(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "model.pkl", "model.ckpt"])
def test_pickles_are_refused_unopened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GGUF even if it says so")
    with pytest.raises(UnsupportedModel, match="pickled"):
        locate(tmp_path / name)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "README.md"])
def test_other_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"...")
    with pytest.raises(UnsupportedModel, match="directory"):
        locate(tmp_path / name)


@pytest.mark.parametrize(
    "model",
    [
        *("", "nothing", "./nothing", "/no/such/model", "a/b/c", "../x/y", "a/b.gguf", "nul\0", "x" * 5000, "a b/c"),
        *("~nobody-of-that-name/x", Path("a/b")),
    ],
)
def test_what_is_neither_here_nor_a_hub_id(
    model: str | Path, hub: Callable[[Snapshot], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def no_hub(*arguments: object, **options: object) -> str:
        raise AssertionError("must not ask the hub")

    hub(no_hub)
    with pytest.raises(ModelNotFound, match="smollm2"):
        locate(model)


def test_a_hub_id_is_fetched_without_code_or_pickles(hub: Callable[[Snapshot], None], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked: list[tuple[str, list[str]]] = []

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    hub(snapshot)
    assert locate("organisation/name-1.5_B") == ModelFiles("organisation/name-1.5_B", tmp_path)
    ((name, patterns),) = asked
    assert name == "organisation/name-1.5_B"
    assert all(pattern.endswith((".json", ".safetensors", ".jinja")) for pattern in patterns)


def offline(*arguments: object, **options: object) -> str:
    raise huggingface_hub.errors.LocalEntryNotFoundError("no")


def no_network(*arguments: object, **options: object) -> str:
    raise ConnectionError("no")


@pytest.mark.parametrize("failure", [offline, no_network])
def test_offline_and_not_cached(failure: Snapshot, hub: Callable[[Snapshot], None]) -> None:
    hub(failure)
    with pytest.raises(ModelNotFound, match=r"organisation/name: .*Go online once"):
        locate("organisation/name")


def test_an_incomplete_snapshot(hub: Callable[[Snapshot], None], tmp_path: Path) -> None:
    hub(lambda name, allow_patterns: str(tmp_path))
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        locate("organisation/name")


def test_a_cached_model_is_found_offline(tmp_path: Path, hub: Callable[[Snapshot], None]) -> None:
    """The hub's own client, offline, against a cache laid out by hand."""
    commit = "0" * 40
    repository = tmp_path / "models--organisation--name"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    hub(functools.partial(huggingface_hub.snapshot_download, cache_dir=tmp_path, local_files_only=True))
    assert locate("organisation/name").path == snapshot
    with pytest.raises(ModelNotFound, match="Go online once"):
        locate("organisation/other")


def test_smollm2_is_the_embedded_model(smollm2_files: ModelFiles) -> None:
    assert smollm2_files.name == "smollm2" and smollm2_files.is_gguf
