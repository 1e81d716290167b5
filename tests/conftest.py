"""Makes `import ramify` work from a bare checkout, whatever its directory is called."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
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

# Without a GPU, Triton's interpreter runs the kernels; it must be asked for before Triton is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run: a failure here is a failure there. Machines are shared, so no deadlines.
settings.register_profile("ramify", derandomize=True, deadline=None)
settings.load_profile("ramify")


@pytest.fixture(scope="session")
def smollm2_files():  # type: ignore[no-untyped-def] - its type lies in a package that can only now be imported
    """The embedded model's files, found (and fetched the first time) by the product's own code."""
    from ramify.runtime.weights.locate import locate

    return locate("smollm2", progress=False)
