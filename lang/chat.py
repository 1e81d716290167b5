"""How the roles of a conversation are written in a model's own format, so that a stream can add to it turn by turn.

A template writes whole conversations. What it puts between the contents is found by rendering contents that stand for
themselves, and cutting there:

    user ⟨0⟩, assistant ⟨1⟩  --template-->  <user> ⟨0⟩ </user><assistant> ⟨1⟩ </assistant>
                                            opening     closing, opening      closing

Where a template rewrites what was said before when more is said (Qwen 3 drops old thoughts, some Mistrals move the
system's words), the turn is marked `rewrites`, and a stream has the whole conversation written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidRequest

Part = str | int  # text, or the id of a control token
Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], bool], list[Part]]  # messages, whether the assistant is to answer

THOUGHT = "</think>"
_LONGEST = 8  # turns of a structure that is rendered; what lies between its ends repeats
_MOST_CACHED = 1_024
_STAND_IN = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class TurnMarks:
    """What is written around the content of one turn, given the roles of the turns before it."""

    opening: tuple[Part, ...]  # before a content that is already known
    answer: tuple[Part, ...]  # before one that is to be generated
    closing: tuple[Part, ...]
    rewrites: bool = False  # this turn changes how the turns before it are written


class ChatFormat:
    """One model's format. Safe from many threads; what was found about a sequence of roles is remembered.

    Made by chat_templates.py, or `plain_format`.
    """

    def __init__(self, render: Render, *, plain: bool = False) -> None:
        self._render = render
        self._known: dict[tuple[str, ...], TurnMarks] = {}
        self.plain = plain
        self.drops_thoughts = not plain and self._drops_thoughts()

    def marks(self, roles: Sequence[str]) -> TurnMarks:
        """The marks of the last of these turns."""
        key = _shortened(tuple(roles))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            found = self._known[key] = self._derived(key) or replace(self._alone(key), rewrites=self._reorders(key))
        return found

    def whole(self, messages: Sequence[Message], *, open_turn: bool) -> list[Part]:
        """The whole conversation as the template writes it; with `open_turn` the last turn goes on after its content.

        Raises InvalidRequest where the template refuses the messages.
        """
        if not open_turn:
            return self._render(messages, False)
        *before, last = messages
        if last["role"] == "assistant" and before:
            return [*self._render(before, True), last["content"]]
        parts = self._render([*before, {**last, "content": _stand_in(0)}], False)
        cut = _cut(parts, 1)
        return parts if cut is None else [*cut[0], last["content"]]

    # -- deriving -------------------------------------------------------------------------------------------------

    def _derived(self, roles: tuple[str, ...]) -> TurnMarks | None:
        """The marks of the last turn in this conversation; None where the template refuses or reorders it."""
        if self.plain:
            return plain_marks(roles[-1])
        with_turn, before = self._gaps(roles), self._gaps(roles[:-1])
        if with_turn is None:
            return None
        *earlier, opening, closing = with_turn
        if before is None:
            return TurnMarks(tuple(opening), tuple(opening), tuple(closing), rewrites=True)
        stays = not roles[:-1] or (earlier == before[:-1] and _begins(opening, before[-1]))
        if stays:
            opening = _behind(opening, before[-1])
        answer = opening
        if roles[-1] == "assistant" and len(roles) > 1:
            asked = self._gaps(roles[:-1], answer=True)
            if asked is not None and asked[:-1] == before[:-1] and _begins(asked[-1], before[-1]):
                answer = _behind(asked[-1], before[-1])
        return TurnMarks(tuple(opening), tuple(answer), tuple(closing), rewrites=not stays)

    def _alone(self, roles: tuple[str, ...]) -> TurnMarks:
        """Marks from conversations that every template takes, where it takes no such conversation as this."""
        role, first = roles[-1], len(roles) == 1
        known: dict[str, list[tuple[str, ...]]] = {
            "system": [("system",)],
            "assistant": [("user", "assistant")],
            "user": [("user",)] if first else [("user", "assistant", "user"), ("user",)],
        }
        for context in known.get(role, [("user", "assistant", role), ("user", role)]):
            found = self._derived(context)
            if found is not None:
                return TurnMarks(found.opening, found.answer, found.closing)
        if role == "system" and self._gaps(("user",)) is not None:
            return TurnMarks((), (), ("\n\n",))  # the model knows no system: what it says stands before the rest
        return plain_marks(role)

    def _reorders(self, roles: tuple[str, ...]) -> bool:
        """Whether the template writes all of these turns, but not in their order."""
        try:
            parts = self._render(_stand_ins(roles), False)
        except InvalidRequest:
            return False
        found = [number for part in parts if isinstance(part, str) for number in _STAND_IN.findall(part)]
        return sorted(map(int, found)) == list(range(len(roles)))

    def _gaps(self, roles: Sequence[str], answer: bool = False) -> list[list[Part]] | None:
        """What stands before, between and behind the contents of such a conversation."""
        if not roles:
            return [[]]
        try:
            return _cut(self._render(_stand_ins(roles), answer), len(roles))
        except InvalidRequest:
            return None

    def _drops_thoughts(self) -> bool:
        thinking = f"<think>\n{_stand_in(1)}\n{THOUGHT}\n\n{_stand_in(2)}"
        contents = [_stand_in(0), thinking, _stand_in(3)]
        roles = ("user", "assistant", "user")
        try:
            turns = zip(roles, contents, strict=True)
            parts = self._render([{"role": role, "content": content} for role, content in turns], False)
        except InvalidRequest:
            return False
        return _stand_in(1) not in "".join(part for part in parts if isinstance(part, str))


def plain_format() -> ChatFormat:
    """SYSTEM:, USER: and ASSISTANT:, for models without a format of their own."""
    return _PLAIN


def plain_marks(role: str) -> TurnMarks:
    """How a role looks in the plain format: no space behind ASSISTANT:, since what is generated brings its own."""
    opening = "ASSISTANT:" if role == "assistant" else f"{role.upper()}: "
    return TurnMarks((opening,), (opening,), ("\n",))


def _render_plain(messages: Sequence[Message], answer: bool) -> list[Part]:
    lines = [f"{message['role'].upper()}: {message['content']}\n" for message in messages]
    return ["".join([*lines, "ASSISTANT:" if answer else ""])]


def _stand_in(index: int) -> str:
    return f"\ue000{index}\ue001"


def _stand_ins(roles: Sequence[str]) -> list[Message]:
    return [{"role": role, "content": _stand_in(index)} for index, role in enumerate(roles)]


def _cut(parts: Sequence[Part], count: int) -> list[list[Part]] | None:
    """The parts before, between and behind the stand-ins 0 to count - 1; None unless each is there once, in order."""
    gaps: list[list[Part]] = [[]]
    for part in parts:
        if isinstance(part, int):
            gaps[-1].append(part)
            continue
        position = 0
        for found in _STAND_IN.finditer(part):
            if int(found[1]) != len(gaps) - 1:
                return None
            if found.start() > position:
                gaps[-1].append(part[position : found.start()])
            gaps.append([])
            position = found.end()
        if position < len(part):
            gaps[-1].append(part[position:])
    return gaps if len(gaps) == count + 1 else None


def _begins(parts: Sequence[Part], start: Sequence[Part]) -> bool:
    """Whether the parts begin so; the last text may go on."""
    if len(parts) < len(start):
        return not start
    for index, (part, expected) in enumerate(zip(parts, start, strict=False)):
        last = index == len(start) - 1
        if part != expected and not (
            last and isinstance(part, str) and isinstance(expected, str) and part.startswith(expected)
        ):
            return False
    return True


def _behind(parts: Sequence[Part], start: Sequence[Part]) -> list[Part]:
    """What comes behind a beginning that is there."""
    if not start:
        return list(parts)
    rest = list(parts[len(start) :])
    part, expected = parts[len(start) - 1], start[-1]
    if isinstance(part, str) and isinstance(expected, str) and len(part) > len(expected):
        rest.insert(0, part[len(expected) :])
    return rest


def _shortened(roles: tuple[str, ...]) -> tuple[str, ...]:
    """The same conversation, with pairs of turns left out of a long one's middle: who speaks still alternates."""
    if len(roles) <= _LONGEST:
        return roles
    keep = _LONGEST - 2 - (len(roles) % 2)
    return roles[:2] + roles[-keep:]


_PLAIN = ChatFormat(_render_plain, plain=True)
