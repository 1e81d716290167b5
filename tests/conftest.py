"""Makes `import ramify` work from a bare checkout, whatever its directory is called."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The checkout's own folders must not shadow packages: `kernels` is one that transformers looks for.
CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != CHECKOUT]

if importlib.util.find_spec("ramify") is None:
    link_home = Path(tempfile.mkdtemp(prefix="ramify-checkout-"))
    (link_home / "ramify").symlink_to(CHECKOUT, target_is_directory=True)
    sys.path.insert(0, str(link_home))

# Where the tests' engines run: "cpu", "cuda", or "interpreter": the GPU's kernels in Triton's interpreter, slowly.
DEVICES = ("cpu", "cuda", "interpreter")
DEVICE = os.environ.get("RAMIFY_TEST_DEVICE", "cpu")
if DEVICE not in DEVICES:
    raise pytest.UsageError(f"RAMIFY_TEST_DEVICE={DEVICE!r}: choose from {', '.join(DEVICES)}")

# Without a GPU, Triton's interpreter runs the kernels; it must be asked for before Triton is first imported.
if DEVICE == "interpreter" or (DEVICE == "cpu" and not Path("/dev/nvidiactl").exists()):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run: a failure here is a failure there. Machines are shared, so no deadlines.
settings.register_profile("ramify", derandomize=True, deadline=None)
settings.load_profile("ramify")


@pytest.fixture(scope="session")
def smollm2_files():  # type: ignore[no-untyped-def] - its type lies in a package that can only now be imported
    """The embedded model's files, found (and fetched the first time) by the product's own code."""
    from ramify.runtime.weights.locate import locate

    return locate("smollm2", progress=False)


def pytest_sessionstart() -> None:
    """One message, where hundreds of tests would fail for the same reason."""
    if DEVICE == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise pytest.UsageError("RAMIFY_TEST_DEVICE=cuda: torch finds no GPU here; use cpu or interpreter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE != "cpu":
        for item in items:
            if item.get_closest_marker("cpu_only"):
                item.add_marker(pytest.mark.skip(reason="about the CPU's core, and engines run elsewhere"))


@pytest.fixture(scope="session", autouse=True)
def where_engines_run() -> Iterator[str]:
    """Every `Engine` of this process that is not told where to run runs on RAMIFY_TEST_DEVICE."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == "cuda":
            from ramify.runtime.options import EngineOptions

            made = EngineOptions.of
            patch.setattr(EngineOptions, "of", lambda given: made({"device": "cuda", **given}))
        elif DEVICE == "interpreter":
            import torch
            from ramify.kernels.triton.compute import TritonCompute
            from ramify.runtime import loading

            def compute(device: str, mode: str, *_: object, fp8_cache: bool = False, **__: object) -> TritonCompute:
                return TritonCompute("fp32" if mode == "auto" else mode, torch.device(device), fp8_cache=fp8_cache)

            patch.setattr(loading, "compute", compute)
        yield DEVICE
