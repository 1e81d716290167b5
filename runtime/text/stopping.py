"""Decides when an output ends, and which of its text may already be shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from ..sampling.params import SamplingParams
from ..scheduling.finish import Finish
from .detokenizer import Detokenizer
from .stop_regex import RegexSearch, compile_stop_regex
from .stop_strings import StringSearch


class Stopping:
    """The end of one output: push its tokens as they are chosen, take the text that is safe to show.

    The stop string or regex whose match ends first wins, and of those that end at the same character the longest; so
    the result depends on the text and not on how it is cut into tokens. Text that may still turn out to be the
    beginning of a stop is held back. `room` is how many tokens the context has left.
    """

    def __init__(
        self, params: SamplingParams, detokenizer: Detokenizer, *, eos_tokens: Collection[int], room: int
    ) -> None:
        self.count = 0  # tokens of the output, up to and including the one that ended it
        self._limit = room if params.max_tokens is None else min(room, params.max_tokens)
        self._minimum = params.min_tokens
        self._eos = frozenset() if params.ignore_eos else frozenset(eos_tokens)
        self._stop_tokens = frozenset(params.stop_token_ids)
        self._include = params.include_stop
        self._detokenizer = detokenizer
        self._searches: list[StringSearch | RegexSearch] = []
        if params.stop:
            self._searches.append(StringSearch(cast("tuple[str, ...]", params.stop)))
        if params.stop_regex is not None:
            self._searches.append(RegexSearch(compile_stop_regex(params.stop_regex)))
        self._shown: list[str] = []  # text that was taken
        self._shown_length = 0
        self._pieces: list[str] = []  # text that was not
        self._waiting = 0  # its characters
        self._finish: Finish | None = None
        self._closed = False

    @property
    def searching(self) -> bool:
        """Whether text may end the output."""
        return bool(self._searches)

    def push(self, tokens: Sequence[int]) -> Finish | None:
        """Add tokens to the output; says whether it ends here. Tokens behind the one that ends it are dropped.

        No tokens are fine: a request that may not have any ends at once.
        """
        if self._finish is None and self._limit <= 0:
            self._finish = Finish("length")
        for token in tokens:
            if self._finish is not None:
                break
            self._finish = self._add(token, self._detokenizer.bytes_of(token))
        self._closed = self._closed or self._finish is not None
        return self._finish

    def rewrite(self, drop: int, tokens: Sequence[int], fresh: int) -> Finish | None:
        """The last `drop` tokens give way to these, which spell the same text and then `fresh` bytes more.

        Says whether the output ends within what is new; `count` is then at the token where it does.
        """
        self.count -= drop
        pieces = list(map(self._detokenizer.bytes_of, tokens))
        known = sum(map(len, pieces)) - fresh  # bytes at the beginning that were pushed before
        for token, piece in zip(tokens, pieces, strict=True):
            if self._finish is not None:
                break
            self._finish = self._add(token, piece[known:])
            known = max(0, known - len(piece))
        self._closed = self._closed or self._finish is not None
        return self._finish

    def end(self, finish: Finish) -> Finish:
        """The output ends here for a reason of its own: a grammar that is complete. A stop that was met stays."""
        if self._finish is None or self._finish.reason == "length":
            stopped = None if self._closed else self._show(self._detokenizer.finish())
            self._finish = stopped or finish
            self._closed = True
        return self._finish

    def take(self) -> str:
        """The text that became certain since the last call; after the end, all that is left."""
        held = 0
        if not self._closed and not self._include:
            held = max((search.held for search in self._searches), default=0)
        ready = self._waiting - held
        if ready <= 0:
            return ""
        text = "".join(self._pieces)
        self._pieces = [text[ready:]] if held else []
        self._waiting = held
        self._shown.append(text[:ready])
        self._shown_length += ready
        return text[:ready]

    def close(self) -> None:
        """The output ends for another reason (an abort): what was held back may now be taken."""
        if not self._closed:
            self._closed = True
            self._show(self._detokenizer.finish())

    def _add(self, token: int, data: bytes) -> Finish | None:
        """One more token, of which `data` is new."""
        before = self.count
        self.count += 1
        ends = token in self._eos or token in self._stop_tokens
        if ends and before >= self._minimum:
            stopped = self._show(self._detokenizer.push_bytes(data)) if self._include else None
            stopped = stopped or self._show(self._detokenizer.finish())
            return stopped or Finish("stop", matched=token if token in self._stop_tokens else None)
        stopped = self._show(self._detokenizer.push_bytes(data))
        if stopped is None and before + 1 >= self._limit:
            stopped = self._show(self._detokenizer.finish()) or Finish("length")
        return stopped

    def _show(self, text: str) -> Finish | None:
        """Append text to the output, unless a stop in it ends the output."""
        if not text:
            return None
        self._pieces.append(text)
        self._waiting += len(text)
        reports = self.count >= self._minimum
        matches = [found for search in self._searches if (found := search.feed(text, reports=reports)) is not None]
        if not matches:
            return None
        start, end = min(matches, key=lambda found: (found.end, found.start))
        whole = "".join(self._pieces)
        before = "".join(self._shown) if start < self._shown_length else ""  # only where the stop is kept anyway
        matched = (before + whole)[start - self._shown_length + len(before) :][: end - start]
        rest = whole[: (end if self._include else start) - self._shown_length]
        self._pieces, self._waiting = [rest], len(rest)
        return Finish("stop", matched=matched)
