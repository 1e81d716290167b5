"""The command line as a user meets it: help, answers on standard output, one line for an error, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ramify.__main__ import main

TINY = ["--mode", "fp32", "--cache-tokens", "2048"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "PYTHONSAFEPATH": "1"}


def test_help_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("demo", "generate", "chat", "score", "info"))
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--model", "--mode", "--cache-tokens", "--max-tokens", "--seed"))


def test_generate_prints_the_text_alone(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["generate", "The quick", "--model", str(tiny_model), "--max-tokens", "8", *TINY]
    assert main(given) == 0
    first = capsys.readouterr()
    assert "prompt tokens" in first.err and "prompt tokens" not in first.out
    assert main(given) == 0
    assert capsys.readouterr().out == first.out


def test_score_ranks(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "The quick", " brown", " fox", "--model", str(tiny_model), *TINY]) == 0
    numbers = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 2


def test_info_tells_the_shape(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(tiny_model), *TINY]) == 0
    assert "llama: 2 layers, width 64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--model", "no/such/model/here"], "no model at"),
        (["generate", "x", "--model", "{tiny}", "--threads", "0"], "threads=0"),
        (["generate", "x", "--model", "{tiny}", "--temperature", "nan"], "temperature"),
        (["generate", "", "--model", "{tiny}"], "empty"),
        (["generate", "x", "--model", "{tiny}", "--seed", "4"], "--temperature"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    tiny_model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.replace("{tiny}", str(tiny_model)) for one in arguments] + ["--no-progress"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("ramify: ") and message in shown.err
    assert "Traceback" not in shown.err and len(shown.err.splitlines()) == 1


def test_chat_remembers_and_ends_with_its_input(tiny_model: Path) -> None:
    command = [sys.executable, "-m", "ramify", "chat", "--model", str(tiny_model), "--max-tokens", "6", *TINY]
    shown = subprocess.run(
        command, input="Hello\n\nAgain\n", capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    assert shown.returncode == 0, shown.stderr
    usages = [line for line in shown.stderr.splitlines() if "prompt tokens" in line]
    assert len(usages) == 2
    assert "(0 cached)" in usages[0] and "(0 cached)" not in usages[1]


def test_control_c_ends_a_blocked_call_at_once_and_leaves_nothing(tiny_model: Path) -> None:
    program = f"""
import signal, sys, threading
from ramify import Engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without it
engine = Engine({str(tiny_model)!r}, mode="fp32", cache_tokens=65536, progress=False)
print("ready", flush=True)
try:
    engine.generate(["The quick"] * 2000, temperature=0, ignore_eos=True)
    print("finished")
except KeyboardInterrupt:
    engine.generate("The", max_tokens=1, temperature=0)
    print("in use:", engine.stats().scheduler.in_use_pages, "waiting:", engine.stats().scheduler.waiting)
engine.close()
print("threads:", [t.name for t in threading.enumerate() if "ramify" in t.name])
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert "in use: 0 waiting: 0" in out, out + err
    assert "threads: []" in out
    assert running.returncode == 0
