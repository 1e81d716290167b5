"""What the results of an engine come to."""

from __future__ import annotations

from typing import Any

import numpy as np

Results = list[dict[str, Any]]


def passes(result: dict[str, Any]) -> bool:
    """It compiles, takes all valid texts and no invalid one."""
    return bool(result["compiled"]) and all(result["valid"]) and not any(result["invalid"])


def percentiles(values: list[float], points: tuple[float, ...]) -> list[float | None]:
    """Of the values; None where there are none."""
    return [float(one) for one in np.percentile(values, points)] if values else [None] * len(points)


def summary(results: Results) -> dict[str, Any]:
    """The figures of one kind of grammars."""
    results = [result for result in results if result.get("offered", True)]
    if not results:
        return {}
    compiled = [result for result in results if result["compiled"]]
    valid = [one for result in compiled for one in result["valid"]]
    invalid = [one for result in compiled for one in result["invalid"]]
    masks = [one for result in compiled for one in result["masks_us"]]
    first = [result["first_mask_ms"] for result in compiled]
    walks = [result["walks"] for result in compiled if "walks" in result]
    jumped = [one for result in compiled for one in result.get("jumped", ())]
    total = {key: sum(walk[key] for walk in walks) for key in ("ended", "valid", "stuck", "cut", "failed")}
    tokens = [sum(one[index] for one in jumped) for index in range(3)]
    return {
        "grammars": len(results),
        "compiles": len(compiled) / len(results),
        "passes": sum(map(passes, results)) / len(results),
        "valid_accepted": sum(valid) / len(valid) if valid else None,
        "invalid_refused": 1 - sum(invalid) / len(invalid) if invalid else None,
        "hung": sum("hung" in result for result in results),
        "first_mask_ms": percentiles(first, (50, 95, 100)),
        "compile_ms": percentiles([result["compile_ms"] for result in compiled], (50, 95, 100)),
        "mask_us": [float(np.mean(masks)) if masks else None, *percentiles(masks, (50, 99, 99.9))],
        "masks": len(masks),
        "walks": total,
        "walks_valid": total["valid"] / total["ended"] if total["ended"] else None,
        "jumped": tokens[1] / tokens[0] if jumped and tokens[0] else None,
        "jumped_otherwise": tokens[2] if jumped else None,
    }
