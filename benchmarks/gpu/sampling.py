"""Choosing tokens and applying masks on the device, as a share of a decode step at batch 64."""

from __future__ import annotations

import numpy as np
from ramify.kernels.draws import Draws

from .engines import config, engine, steady
from .findings import Section, time_of
from .scene import Scene

TITLE = "Sampling and masks"


def measure(scene: Scene, section: Section) -> None:
    batch = scene.pick(64, 2)
    made = engine(scene)
    step = steady(scene, made, batch).seconds
    vocabulary = config(scene).vocab_size
    logits = scene.randn(batch, vocabulary).float() * 3
    compute = made._model.compute  # no request is under way, so its draws disturb nobody
    table = section.table(
        f"Choosing {batch} tokens of {vocabulary}, logits in fp32", "what", "median", "best", "of a decode step"
    )
    for name, draws in kinds(batch, vocabulary).items():
        timing = scene.timed(lambda draws=draws: compute.choose(logits, draws))
        share = timing.median / step
        table.add(name, time_of(timing.median), time_of(timing.least), f"{share:.1%}")
        if name == HARDEST:
            section.at_most(f"sampling with masks: share of a decode step at batch {batch}", share, 0.05, "")
    section.notes.append(f"A decode step at batch {batch} takes {time_of(step)} by the wall clock, drawing included.")


HARDEST = "mask, temperature, top-k, top-p, min-p"


def kinds(batch: int, vocabulary: int) -> dict[str, Draws]:
    """Draws from the easiest to the hardest."""
    words = -(-vocabulary // 32)
    random = np.random.default_rng(0)
    masks = random.integers(0, 2**32, (batch, words), dtype=np.uint32)
    none = np.zeros((0, words), np.uint32)
    return {
        "the largest": draws(batch, none, temperature=0.0),
        "temperature": draws(batch, none),
        "top-k, top-p, min-p": draws(batch, none, top_k=50, top_p=0.9, min_p=0.02),
        "mask, temperature": draws(batch, masks),
        HARDEST: draws(batch, masks, top_k=50, top_p=0.9, min_p=0.02),
    }


def draws(
    batch: int, masks: np.ndarray, *, temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Draws:
    """The same for every row; each row has a mask of its own where there are masks."""
    nothing = np.zeros(0, np.float32)
    return Draws(
        rows=np.arange(batch, dtype=np.int32),
        temperature=np.full(batch, temperature, np.float32),
        top_k=np.full(batch, top_k, np.int32),
        top_p=np.full(batch, top_p, np.float32),
        min_p=np.full(batch, min_p, np.float32),
        seed=np.arange(batch, dtype=np.int64),
        masks=masks,
        mask_of=np.arange(batch, dtype=np.int32) if len(masks) else np.full(batch, -1, np.int32),
        edit_start=np.zeros(batch + 1, np.int32),
        edit_ids=np.zeros(0, np.int32),
        edit_bias=nothing,
        edit_factor=nothing,
        edit_penalty=nothing,
    )
