"""The engine's decode, at batch 1 and 64: against the bytes that a step must move, and how long the GPU idles."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import ramify

from .engines import Decoding, Steady, config, engine, prompts, steady
from .findings import Section, time_of
from .random_model import parameters
from .scene import Scene

TITLE = "The engine on a Llama 3 8B shape, random weights, bf16"
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5 + 4 / 32}  # of a weight: int4's blocks of 32


def measure(scene: Scene, section: Section) -> None:
    made = engine(scene)
    table = section.table(
        "Steady decode, by the wall clock", "batch", "context", "steps", "a step", "floor", "by the floor", "tokens/s"
    )
    for batch in scene.pick((1, 64), (2,)):
        found = steady(scene, made, batch)
        least = floor(scene, found, "bf16")
        table.add(
            batch, f"{found.context:.0f}", found.steps, time_of(found.seconds), time_of(least),
            f"{found.seconds / least:.2f}", f"{batch / found.seconds:.0f}",
        )  # fmt: skip
        section.at_most(f"engine, decode at batch {batch}: by the bytes-moved floor", found.seconds / least, 1.4)
    for batch in scene.pick((1, 64), (1,)):
        share, count = idle(scene, made, batch)
        section.at_most(f"engine, steady decode at batch {batch}: share in which the GPU idles", share, 0.05, "")
        section.notes.append(f"Batch {batch}: {count} device activities were traced by torch's profiler.")
    section.notes.append(f"`{made!r}`")  # it says what became of the steps


def floor(scene: Scene, found: Steady, mode: str) -> float:
    """Weights once and every key and value once, at the measured bandwidth; the products at the measured rate."""
    shape = config(scene)
    multiplied, _ = parameters(shape)
    keys = 2 * shape.layers * shape.kv_heads * shape.head_dim * 2 * found.context * found.batch
    head = 2.0 * shape.vocab_size * shape.hidden_size  # the last matrix stays in bf16
    weights = (multiplied - head / 2) * BYTES[mode] + head
    return scene.ceilings.floor(weights + keys, 2 * multiplied * found.batch)


def idle(scene: Scene, engine: ramify.Engine, batch: int) -> tuple[float, int]:
    """The share of a steady decode in which nothing ran on the device, and how many activities there were."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CPU if scene.rehearsal else ProfilerActivity.CUDA
    with profile(activities=[activity]):  # its first start takes a second or two
        scene.randn(16).sum().item()
    tokens = scene.pick(2048, 10)
    running = Decoding(engine, prompts(scene, batch, scene.pick(1024, 8)), tokens, skip=scene.pick(16, 2))
    running.begin()
    with profile(activities=[activity]) as traced:
        running.wait(running.over, scene.pick(0.6, 60))
    running.abandon()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        traced.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    if scene.rehearsal:
        events = [{"cat": "kernel", "ts": i * 10.0, "dur": 9.5} for i in range(20)]
    return idle_share(events)


def idle_share(events: list[dict[str, Any]]) -> tuple[float, int]:
    """1 - (time covered by kernels and copies) / (from the first's beginning to the last's end)."""
    spans = sorted(
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset") and "dur" in event
    )
    if not spans:
        raise RuntimeError("the profiler saw nothing on the device")
    covered, reached = 0.0, spans[0][0]
    for begin, end in spans:
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return 1 - covered / (reached - spans[0][0]), len(spans)
