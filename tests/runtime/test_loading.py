"""Loading takes what the model needs and no more, and refuses options that this machine cannot serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ramify
import torch
from ramify.errors import InvalidRequest

PROBE = """
import ctypes, json, sys
import ramify
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages count what nobody has touched
def status(field):  # not ru_maxrss, which a child inherits from its parent
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))
def now():
    return status("VmRSS:")
import torch, ramify.runtime.engine
before = now()
engine = ramify.Engine(sys.argv[1], mode=sys.argv[2], progress=False, cache_tokens=1024)
after = now()
peak = status("VmHWM:")
print(json.dumps({"before": before, "after": after, "peak": peak}))
engine.close()
"""


def memory(model: str, mode: str) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    shown = subprocess.run(
        [sys.executable, "-c", PROBE, model, mode], capture_output=True, text=True, env=environment, check=False
    )
    assert shown.returncode == 0, shown.stderr
    numbers: dict[str, int] = json.loads(shown.stdout)
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fp32", "auto"])
def test_loading_never_holds_a_second_copy(mode: str) -> None:
    """The largest single parameter, the embedding in fp32, is 113 MB: it may be there twice while it is packed."""
    memory("smollm2", mode)  # whatever happens once, calibration say, has happened
    numbers = memory("smollm2", mode)
    weights = {"fp32": 134_515_008 * 4, "auto": 66e6 + 106e6 + 30e6}[mode]
    file, rest = 98.4e6, 190e6  # the file's pages that were read count too; tokenizer, cache, libraries, allocators
    assert numbers["after"] - numbers["before"] < weights + file + rest  # a second packed copy would be 202 MB more
    assert numbers["peak"] - numbers["after"] < 2 * 113.3e6 + 150e6  # a whole fp32 copy would be 538 MB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "cuda"),
        pytest.param(
            {"device": "cuda"}, "no GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
        ),
        ({"threads": 4096}, "cores"),
        ({"threads": True}, "threads=True"),
        ({"cache_tokens": 2**30, "page_size": 16}, "GB are free"),
        ({"cache_tokens": 1}, "cache_tokens=1"),
        ({"context_length": 10**6}, "at most 512"),
        pytest.param({"page_size": 5}, "multiples of 16", marks=pytest.mark.cpu_only),
        ({"mode": "int3"}, "int3"),
        ({"cache_type": "fp8"}, "for GPUs"),
        ({"policy": "random"}, "random"),
        ({"max_running": 0}, "max_running=0"),
    ],
)
def test_options_that_cannot_be_served_say_why(tiny_model: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ramify.Engine(tiny_model, progress=False, **options)


@pytest.mark.parametrize("options", [{"step_tokens": 1}, {"cache_tokens": 48}, {"page_size": 64}, {"max_running": 1}])
def test_tight_options_still_answer(tiny_model: Path, options: dict[str, int]) -> None:
    with ramify.Engine(tiny_model, mode="fp32", progress=False, **{"cache_tokens": 2048, **options}) as engine:
        expected = [5, 6, 7] * 5
        answers = engine.generate([expected, expected, [9] * 20], temperature=0, max_tokens=6, ignore_eos=True)
        assert [len(one.token_ids) for one in answers] == [6, 6, 6]
        assert answers[0].token_ids == answers[1].token_ids
