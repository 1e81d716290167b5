"""What a stream says so far, as a chain of pieces that forks share: for backends that send text or messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..nodes import Media


@dataclass(frozen=True, slots=True)
class Said:
    """Some text, and whether a model wrote it."""

    text: str
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A role starts or ends."""

    role: str
    starts: bool


Piece = Said | Mark | Media


@dataclass(frozen=True, slots=True)
class _Link:
    piece: Piece
    before: _Link | None


class Transcript:
    """An append-only list of pieces; a fork costs nothing, whatever the length. One thread at a time may append."""

    __slots__ = ("_last", "role")

    def __init__(self) -> None:
        self._last: _Link | None = None
        self.role: str | None = None  # who speaks now

    def add(self, text: str, generated: bool = False) -> None:
        if text:
            self._last = _Link(Said(text, generated), self._last)

    def start_role(self, role: str) -> None:
        self.role = role
        self._last = _Link(Mark(role, True), self._last)

    def end_role(self, role: str) -> None:
        self.role = None
        self._last = _Link(Mark(role, False), self._last)

    def add_media(self, media: Media) -> None:
        self._last = _Link(media, self._last)

    def fork(self) -> Transcript:
        """The same so far; what either says from here on is its own."""
        other = Transcript()
        other._last, other.role = self._last, self.role
        return other

    def pieces(self) -> list[Piece]:
        found: list[Piece] = []
        link = self._last
        while link is not None:
            found.append(link.piece)
            link = link.before
        found.reverse()
        return found

    @property
    def has_roles(self) -> bool:
        return any(isinstance(piece, Mark) for piece in self.pieces())

    def text(self, mark: Callable[[Mark], str] | None = None) -> str:
        """Everything as one text; `mark` writes where roles start and end (default: SYSTEM:, USER:, ASSISTANT:)."""
        write = mark or plain_mark
        return "".join(_written(self.pieces(), write))

    def messages(self) -> list[dict[str, Any]]:
        """As a list of OpenAI-style messages, the one being spoken included; text outside of any role is a user's.

        Content is text, or a list of `Said` texts and `Media` under "parts" where there is any media.
        """
        found: list[dict[str, Any]] = []
        role: str | None = None
        for piece in self.pieces():
            if isinstance(piece, Mark):
                role = piece.role if piece.starts else None
                if piece.starts:
                    found.append({"role": role, "content": ""})
                continue
            if not found or (role is None and found[-1].get("role") != "user"):
                found.append({"role": role or "user", "content": ""})
            if isinstance(piece, Media):
                parts = found[-1].setdefault("parts", [found[-1]["content"]] if found[-1]["content"] else [])
                parts.append(piece)
            else:
                found[-1]["content"] += piece.text
                if "parts" in found[-1]:
                    found[-1]["parts"].append(piece.text)
        return found


def plain_mark(mark: Mark) -> str:
    """How roles look where a model has no format of its own."""
    if not mark.starts:
        return "\n"
    return "ASSISTANT:" if mark.role == "assistant" else f"{mark.role.upper()}: "


def _written(pieces: list[Piece], mark: Callable[[Mark], str]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, Said):
            yield piece.text
        elif isinstance(piece, Mark):
            yield mark(piece)
