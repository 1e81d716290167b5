"""Compiles C++ with the machine's own compiler, once, and keeps the library: shared by kernels and grammars."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .home import ramify_home

COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 300  # seconds for one compilation


class CoreUnavailable(Exception):
    """There is no compiled core on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class NativeCore:
    """C++ that is compiled where it runs: `sources/core.cpp`, which includes the headers beside it.

    `name` is for the message that it is being compiled, and for the file. A library compiled with -march depends on
    the CPU, and is kept for each.
    """

    name: str
    sources: Path
    flags: tuple[str, ...]

    def load(self) -> ctypes.CDLL:
        """The library, loaded; compiled first where there is no good copy from an earlier time.

        Raises CoreUnavailable, also where RAMIFY_NATIVE=0 asks for that.
        """
        if os.environ.get("RAMIFY_NATIVE", "1") == "0":
            raise CoreUnavailable("RAMIFY_NATIVE=0")
        if not sys.platform.startswith("linux"):
            raise CoreUnavailable(f"it is written for Linux, this is {sys.platform}")
        compiler = find_compiler()
        try:
            return ctypes.CDLL(str(self.built(compiler, ramify_home() / "native")))
        except OSError as error:
            raise CoreUnavailable(f"the compiled core cannot be stored or loaded: {error}") from error

    def built(self, compiler: str, folder: Path) -> Path:
        """The library in `folder` for these sources, this compiler and this CPU; compiled if it is not there, whole.

        Two processes may do this at once: each compiles under a name of its own and renames the result.
        """
        library = folder / f"{self.fingerprint(compiler)}.so"
        checksum = library.with_suffix(".sha256")
        if is_whole(library, checksum):
            return library
        folder.mkdir(parents=True, exist_ok=True)
        print(f"[ramify] compiling {self.name} (once, about 10 s)...", file=sys.stderr, flush=True)  # noqa: T201
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / library.name
            self.compile(compiler, fresh)
            digest = Path(scratch) / checksum.name
            digest.write_text(sha256(fresh), encoding="ascii")
            fresh.replace(library)
            digest.replace(checksum)
        return library

    def compile(self, compiler: str, target: Path) -> None:
        """Runs the compiler. Raises CoreUnavailable with its first complaint."""
        command = [compiler, *self.flags, str(self.sources / "core.cpp"), "-o", str(target)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise CoreUnavailable(f"{compiler} did not finish in {PATIENCE} s") from error
        if result.returncode != 0:
            complaints = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
            raise CoreUnavailable(f"{compiler} failed: {complaints[0] if complaints else 'no message'}")

    def fingerprint(self, compiler: str) -> str:
        """What the library depends on, as a name: the sources, the flags, the compiler and the CPU."""
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        cpu = cpu_flags() if any(flag.startswith("-march") for flag in self.flags) else ""
        parts = [version.stdout.encode(), " ".join(self.flags).encode(), platform.machine().encode(), cpu.encode()]
        for source in sorted([*self.sources.glob("*.cpp"), *self.sources.glob("*.h")]):
            parts += [source.name.encode(), source.read_bytes()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def find_compiler() -> str:
    """The path of a C++ compiler: CXX, or the first known one. Raises CoreUnavailable."""
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise CoreUnavailable(f"no C++ compiler ({wanted or ', '.join(COMPILERS)}) on this machine")


def cpu_flags() -> str:
    """The features of this CPU, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def is_whole(library: Path, checksum: Path) -> bool:
    """Whether the library is there and is what was compiled: loading half a file could kill the process."""
    try:
        return checksum.read_text(encoding="ascii") == sha256(library)
    except (OSError, UnicodeDecodeError):
        return False


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
