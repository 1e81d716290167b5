"""Draws tokens on the device: what is asked for goes there in one copy, what was drawn comes back behind an event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..draws import ChosenTokens, Draws, Ints
from .layout import Layout, sent, words
from .sampling import DeviceDraws, Sampled, sample

RESULTS = ("tokens", "logprobs", "ranks", "totals", "top_ids", "top_logprobs")


@dataclass(frozen=True, slots=True)
class DeviceChosen:
    """Draws on their way from the device: int32 words in host memory, to be read once the event has come."""

    words: torch.Tensor
    layout: Layout
    top: int
    done: torch.cuda.Event | None  # None: the device is the host

    def read(self) -> ChosenTokens:
        if self.done is not None:
            self.done.synchronize()
        found = {name: view.numpy() for name, view in self.layout.views(self.words).items()}
        count = len(found["tokens"])
        return ChosenTokens(
            tokens=found["tokens"],
            logprobs=found["logprobs"].view(np.float32),
            ranks=found["ranks"],
            top_ids=found["top_ids"].reshape(count, self.top),
            top_logprobs=found["top_logprobs"].view(np.float32).reshape(count, self.top),
        )


def choose(logits: torch.Tensor, draws: Draws, drawn: torch.Tensor) -> DeviceChosen:
    """Launches the draws from logits [R, V] fp32 and returns. The tokens stay in `drawn` [>= D] int32 as well."""
    device, count, top = logits.device, len(draws.rows), min(draws.top, logits.shape[1])
    rooms = dict.fromkeys(RESULTS, count) | {"top_ids": count * top, "top_logprobs": count * top}
    layout = Layout.of(rooms)
    results = torch.empty(max(1, layout.total), dtype=torch.int32, device=device)
    views = layout.views(results)
    into = Sampled(
        views["tokens"], views["logprobs"].view(torch.float32), views["ranks"], views["totals"].view(torch.float32)
    )
    if count:
        asked = on_device(draws, device)
        sample(logits, asked, drawn, into)
        if top:
            best = logits.index_select(0, asked.rows).topk(top, dim=-1)
            views["top_ids"].view(count, top).copy_(best.indices)
            likelihoods = views["top_logprobs"].view(torch.float32).view(count, top)
            torch.sub(best.values, into.totals[:, None], out=likelihoods)
    if device.type != "cuda":
        return DeviceChosen(results, layout, top, None)
    home = torch.empty_like(results, device="cpu", pin_memory=True)
    home.copy_(results, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return DeviceChosen(home, layout, top, done)


def on_device(draws: Draws, device: torch.device) -> DeviceDraws:
    """The draws as the kernel wants them, in one copy. What is edited gets rows of its own."""
    edits = np.diff(draws.edit_start)  # [D]
    edited = np.flatnonzero(edits)  # the draws with edits
    place: Ints = np.full(len(edits), -1, np.int32)
    place[edited] = np.arange(len(edited))
    arrays = sent(
        {
            "rows": draws.rows,
            "temperature": words(draws.temperature),
            "top_k": draws.top_k,
            "top_p": words(draws.top_p),
            "min_p": words(draws.min_p),
            "seed": words(draws.seed),
            "mask_of": draws.mask_of,
            "edited": place,
            "edited_rows": draws.rows[edited],
            "edit_row": np.repeat(place, edits),
            "edit_ids": draws.edit_ids,
            "edit_bias": words(draws.edit_bias),
            "edit_factor": words(draws.edit_factor),
            "edit_penalty": words(draws.edit_penalty),
            "masks": words(draws.masks),
        },
        device,
    )
    width = draws.masks.shape[1] if draws.masks.ndim == 2 else 0
    floats = {
        name: arrays[name].view(torch.float32)
        for name in ("temperature", "top_p", "min_p", "edit_bias", "edit_factor", "edit_penalty")
    }
    return DeviceDraws(
        rows=arrays["rows"],
        top_k=arrays["top_k"],
        seed=arrays["seed"].view(torch.int64),
        masks=arrays["masks"].view(-1, width) if width else arrays["masks"].view(0, 1),
        mask_of=arrays["mask_of"],
        edited=arrays["edited"],
        edited_rows=arrays["edited_rows"],
        edit_row=arrays["edit_row"],
        edit_ids=arrays["edit_ids"],
        **floats,
    )
