"""The tests can be run with their engines on a GPU, or on its kernels in Triton's interpreter: RAMIFY_TEST_DEVICE."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ramify
import torch

HERE = Path(__file__).resolve().parent
SOME = (  # of the engine's tests, those that need few steps: the interpreter is thousands of times slower than a GPU
    "test_device.py::test_engines_run_where_they_were_asked_to",
    "test_engine.py::test_one_prompt_gives_one_generation_with_its_costs",
    "test_engine.py::test_going_on_from_a_finished_stream_computes_only_what_is_new",
    "test_loading.py::test_options_that_cannot_be_served_say_why",
)


def test_engines_run_where_they_were_asked_to(tiny: ramify.Engine, where_engines_run: str) -> None:
    assert ("Triton" in tiny.stats().model) == (where_engines_run != "cpu")
    assert tiny.generate([5, 6, 7], max_tokens=2, temperature=0, ignore_eos=True).usage.completion_tokens == 2


def run(device: str, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAMIFY_TEST_DEVICE": device, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(HERE / name) for name in names)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=HERE.parents[1])


@pytest.mark.slow
@pytest.mark.cpu_only
def test_the_switch_puts_the_engines_tests_on_the_gpus_kernels() -> None:
    shown = run("interpreter", *SOME)
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-2000:]
    assert "1 skipped" in shown.stdout  # what is about the CPU's core alone


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asked_for_a_gpu_nothing_runs_on_the_cpu_instead() -> None:
    shown = run("cuda", SOME[0])
    assert shown.returncode != 0
    assert (shown.stdout + shown.stderr).count("torch finds no GPU") == 1
    assert "passed" not in shown.stdout and "failed" not in shown.stdout


def test_an_unknown_device_is_refused() -> None:
    shown = run("tpu", SOME[0])
    assert shown.returncode != 0
    assert "choose from cpu, cuda, interpreter" in shown.stdout + shown.stderr
