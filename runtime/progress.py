"""Progress bars on stderr for work that takes long enough to wonder about."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(label: str, total: int, wanted: bool | None, unit: str = "") -> Iterator[Callable[[int], object]]:
    """A bar of `total` units; yields the function that moves it. wanted=None: only when stderr is a terminal."""
    shown = sys.stderr.isatty() if wanted is None else wanted
    with tqdm(total=total, desc=label, unit=unit, disable=not shown, leave=False, file=sys.stderr) as progress:
        yield progress.update
