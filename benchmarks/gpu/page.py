"""The page that a run writes: what it ran on, every claim with its bar, and everything that was measured."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict
from typing import Any

import torch

from .. import machine
from .findings import Finding, Section

VERSIONS = ("torch", "triton", "numpy", "tokenizers", "safetensors", "transformers", "flashinfer-python")


def facts(device: torch.device, command: str) -> dict[str, Any]:
    """Hardware, driver, versions, commit and date, all of them read from the system."""
    found: dict[str, Any] = {name: _version(name) for name in VERSIONS}
    host = machine.describe()
    found |= {"python": platform.python_version(), "command": command}
    found |= {key: host[key] for key in ("date", "commit", "dirty", "system", "processor", "cores", "memory_gb")}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": about.name,
            "memory": f"{about.total_memory / 1e9:.0f} GB",
            "processors": about.multi_processor_count,
            "capability": f"sm_{about.major}{about.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    else:
        found["gpu"] = "none: a rehearsal"
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({type(error).__name__})"
    return shown.stdout.strip().splitlines()[0] if shown.stdout.strip() else "unknown"


def markdown(about: dict[str, Any], sections: dict[str, tuple[str, Section]], rehearsal: bool) -> str:
    """The whole page. `sections`: name -> (title, what was found)."""
    lines = [f"# Benchmarks on one GPU: {about['gpu']}", ""]
    if rehearsal:
        lines += [
            "**A rehearsal.** Every path was run in Triton's interpreter, with tiny shapes, on a CPU: no number below",
            "means anything.", "",
        ]  # fmt: skip
    lines += [
        f"`{about['command']}` makes this page, in one run: the ceilings first, then what is held against them.",
        "Times are medians by the device's events; between two runs a buffer larger than the cache is written, and",
        "what the host does to queue a kernel is not counted unless the section says so.", "",
        "| what | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.items()), "",
        "## Bars", "", "| claim | bar | measured | met |", "|---|---|---|---|",
    ]  # fmt: skip
    for _, section in sections.values():
        lines += [_line(finding) for finding in section.findings]
    failed = [(title, section.error) for title, section in sections.values() if section.error]
    lines += [f"| {title} | | {error} | **failed** |" for title, error in failed]
    for title, section in sections.values():
        lines += ["", f"## {title}", ""]
        lines += [f"{note}\n" for note in section.notes]
        if section.error:
            lines += [f"This section failed: {section.error}", ""]
        for table in section.tables:
            lines += [table.title + ":", ""] if table.title != title else []
            lines += [_cells(table.columns), "|" + "---|" * len(table.columns), *map(_cells, table.rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _line(finding: Finding) -> str:
    met = {True: "yes", False: "**no**", None: "-"}[finding.met]
    return _cells((finding.claim, finding.bar, finding.measured, met))


def _cells(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def as_json(about: dict[str, Any], sections: dict[str, tuple[str, Section]]) -> str:
    """The same as data."""
    return json.dumps({"about": about, "sections": {k: asdict(s) for k, (_, s) in sections.items()}}, indent=1) + "\n"
