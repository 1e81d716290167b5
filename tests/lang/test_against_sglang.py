"""Random programs come to the same on SGLang's own frontend, where the overhead benchmark has installed it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SGLANG = Path(__file__).parents[2] / ".venvs" / "sglang" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not SGLANG.exists(), reason="make it with `python -m ramify.benchmarks.programs.overhead`")
def test_random_programs_come_to_the_same() -> None:
    script = str(Path(__file__).with_name("either_side.py"))
    sides = [
        json.loads(subprocess.run([python, script, side, "150"], capture_output=True, text=True, check=True).stdout)
        for python, side in ((str(SGLANG), "sglang"), (sys.executable, "ramify"))
    ]
    assert len(sides[0]) == 150 and sides[0] == sides[1]
    assert len({json.dumps(one) for one in sides[0]}) > 140, "the programs differ, or this would say nothing"
