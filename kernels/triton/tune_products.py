"""What a tuner times of products: every kernel that can do it, for each format, matrix and number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .products import Format, candidates
from .tune_attention import Candidate
from .variants import product_variant
from .weights import Packing, multiply_by

FORMATS: tuple[Format, ...] = ("bf16", "fp8", "int8", "int4")
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MATRICES = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))  # [N, K] of Llama 3 8B's four


@dataclass(frozen=True)
class Drawn:
    """A matrix of random numbers, as a file would offer it."""

    shape: tuple[int, ...]
    device: torch.device
    format: str = "F32"

    def dense(self) -> torch.Tensor:
        generator = torch.Generator(self.device).manual_seed(1)
        return torch.randn(self.shape, generator=generator, device=self.device).div_(self.shape[1] ** 0.5)

    def rows(self) -> Any:
        raise NotImplementedError("random numbers lie in no file")


def product_candidates(
    format: Format, n: int, k: int, device: torch.device, counts: tuple[int, ...]
) -> Iterator[tuple[int, list[Candidate]]]:
    """For each number of rows, the products by this matrix. A candidate's launch says which kernel it is of."""
    matrix = Packing(format, device).linear([Drawn((n, k), device)], name="drawn")
    for rows in counts:
        x = torch.randn((rows, k), device=device).bfloat16()
        found = []
        for one in candidates(format, n, k, rows, device):
            made = product_variant(format, one.kernel, rows, one.launch, f"{one.kernel} {format} {rows} rows")
            launch: dict[str, Any] = {"kernel": one.kernel, **one.launch}
            run = lambda x=x, one=one: multiply_by(x, matrix, one)  # noqa: E731
            found.append(Candidate(launch, run, () if made is None else (made,)))
        yield rows, found
