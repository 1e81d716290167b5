"""What a stream says so far, as a chain of pieces that forks share: for backends that send text or messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidRequest
from ..chat import THOUGHT, ChatFormat, Part, TurnMarks, plain_format, plain_marks
from ..nodes import Media

_PLAIN = plain_format()


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

    __slots__ = ("_last", "role", "roles")

    def __init__(self) -> None:
        self._last: _Link | None = None
        self.role: str | None = None  # who speaks now
        self.roles: tuple[str, ...] = ()  # who spoke, turn by turn

    def add(self, text: str, generated: bool = False) -> None:
        if text:
            self._last = _Link(Said(text, generated), self._last)

    def start_role(self, role: str) -> None:
        self.role = role
        self.roles = (*self.roles, role)
        self._last = _Link(Mark(role, True), self._last)

    def end_role(self, role: str) -> None:
        self.role = None
        self._last = _Link(Mark(role, False), self._last)

    def add_media(self, media: Media) -> None:
        self._last = _Link(media, self._last)

    def fork(self) -> Transcript:
        """The same so far; what either says from here on is its own."""
        other = Transcript()
        other._last, other.role, other.roles = self._last, self.role, self.roles
        return other

    def pieces(self) -> list[Piece]:
        found: list[Piece] = []
        link = self._last
        while link is not None:
            found.append(link.piece)
            link = link.before
        found.reverse()
        return found

    def opening(self, chat: ChatFormat) -> str:
        """What this format writes where the latest turn starts and is to be generated."""
        return "".join(_texts(chat.marks(self.roles).answer))

    def closing(self, chat: ChatFormat) -> str:
        """What this format writes where the latest turn ends."""
        return "".join(_texts(chat.marks(self.roles).closing)) if self.roles else ""

    def text(self, chat: ChatFormat = _PLAIN) -> str:
        """Everything as one text, with roles in this format, ready to be continued. Media is left out."""
        written: list[str] = []
        roles: list[str] = []
        marks: TurnMarks | None = None  # of the turn that is open, until its opening is written
        closing: tuple[Part, ...] = ()
        whole = False
        for piece in self.pieces():
            if isinstance(piece, Mark) and piece.starts:
                roles.append(piece.role)
                marks = chat.marks(roles)
                closing, whole = marks.closing, whole or marks.rewrites
            elif isinstance(piece, Mark):
                written += _texts(marks.opening if marks is not None else ())
                written += _texts(closing)
                marks = None
            elif isinstance(piece, Said):
                if marks is not None:
                    written += _texts(marks.answer if piece.generated else marks.opening)
                    marks = None
                written.append(piece.text)
                whole = whole or (chat.drops_thoughts and THOUGHT in piece.text)
        written += _texts(marks.answer if marks is not None else ())
        return self._anew(chat, written) if whole else "".join(written)

    def _anew(self, chat: ChatFormat, written: list[str]) -> str:
        """The whole conversation as the template writes it, where turns change how those before are written."""
        with contextlib.suppress(InvalidRequest):
            return "".join(_texts(chat.whole(self.messages(), open_turn=self.role is not None)))
        return "".join(written)

    def messages(self) -> list[dict[str, Any]]:
        """As OpenAI-style messages, the one being spoken included; text outside of any role is a user's.

        A content is text, or a list of texts and Media where there is any media.
        """
        found: list[dict[str, Any]] = []
        role: str | None = None
        for piece in self.pieces():
            if isinstance(piece, Mark):
                role = piece.role if piece.starts else None
                if piece.starts:
                    found.append({"role": role, "content": []})
                continue
            if role is None and not (found and found[-1].get("outside")):
                found.append({"role": "user", "content": [], "outside": True})
            found[-1]["content"].append(piece if isinstance(piece, Media) else piece.text)
        for message in found:
            message.pop("outside", None)
            if not any(isinstance(part, Media) for part in message["content"]):
                message["content"] = "".join(message["content"])
        return found


def plain_mark(mark: Mark) -> str:
    """How roles look where a model has no format of its own."""
    marks = plain_marks(mark.role)
    return "".join(_texts(marks.answer if mark.starts else marks.closing))


def _texts(parts: Iterable[Part]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]
