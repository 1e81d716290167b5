"""A stream as the token ids that a model has read and written: only what is new is encoded, and forks share the rest.

What a model generated stays the tokens it chose. Where text follows, only the meeting point is encoded anew (token
truth). Control tokens come from the model's chat template alone; what people write stays text.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import InvalidRequest, ProgramError
from ...runtime.text.tokenizer import Tokenizer
from ..chat import THOUGHT, ChatFormat, Part, TurnMarks

Tokens = tuple[int, ...]


class TokenStream:
    """Text, roles and generations become ids, lazily. One thread at a time.

    `settle` gives the ids of everything said so far; `wrote` adds what the model said after them.
    """

    __slots__ = ("_anew", "_begun", "_format", "_marks", "_new", "_outside", "_roles", "_said", "_tokenizer", "_tokens")

    def __init__(self, tokenizer: Tokenizer, chat: ChatFormat) -> None:
        self._tokenizer = tokenizer
        self._format = chat
        self._tokens: Tokens = ()
        self._new: list[Part] = []  # said, not yet encoded
        self._roles: tuple[str, ...] = ()  # of all turns so far
        self._said: tuple[str, ...] = ()  # their contents; the last one's grows
        self._marks: TurnMarks | None = None  # of the turn that is open
        self._begun = False  # its opening is written
        self._anew = False  # the conversation must be written as a whole again
        self._outside = False  # there is text outside of all turns, which no template can write

    def fork(self) -> TokenStream:
        """The same so far; ids are shared until one of the two goes on."""
        other = TokenStream(self._tokenizer, self._format)
        other._tokens, other._new = self._tokens, list(self._new)
        other._roles, other._said = self._roles, self._said
        other._marks, other._begun = self._marks, self._begun
        other._anew, other._outside = self._anew, self._outside
        return other

    # -- saying ---------------------------------------------------------------------------------------------------

    def append(self, text: str) -> None:
        if not text:
            return
        if self._marks is None:
            self._outside = True
        else:
            self._begin(self._marks.opening)
            self._said = (*self._said[:-1], self._said[-1] + text)
        self._new.append(text)

    def start_role(self, role: str) -> str:
        """Returns the text of the opening. Raises ProgramError when a role is open already."""
        if self._marks is not None:
            raise ProgramError(f"{role} starts inside of {self._roles[-1]}: end that role first; roles do not nest")
        if not self._roles and self._new:
            self.settle(answer=False)
        self._roles, self._said = (*self._roles, role), (*self._said, "")
        self._marks, self._begun = self._format.marks(self._roles), False
        if self._marks.rewrites or (self._format.drops_thoughts and self._thoughts_before()):
            self._anew = True
        return self._spelled(self._marks.answer)

    def end_role(self, role: str) -> str:
        """Returns the text of the closing. Raises ProgramError when another role is open, or none."""
        if self._marks is None or self._roles[-1] != role:
            speaks = "nobody" if self._marks is None else self._roles[-1]
            raise ProgramError(f"{role} ends, but {speaks} speaks")
        self._begin(self._marks.opening)
        closing, self._marks = self._marks.closing, None
        self._new += closing
        return self._spelled(closing)

    def wrote(self, said: Written) -> None:
        """The model said this after what `settle` gave."""
        assert not self._new, "settle() comes before a generation"
        self._tokens = (*self._tokens, *said.kept)
        if said.rest:
            self._new.append(said.rest)
        if self._marks is not None:
            self._said = (*self._said[:-1], self._said[-1] + said.text)
        else:
            self._outside = True

    # -- ids ------------------------------------------------------------------------------------------------------

    def settle(self, *, answer: bool) -> Tokens:
        """The ids of all that was said. `answer`: somebody generates next, which opens the turn; not for a prefill."""
        if self._anew and not self._outside and (answer or self._begun or self._marks is None):
            self._rewrite()
        if answer and self._marks is not None:
            self._begin(self._marks.answer)
        if self._new:
            whole = self._outside or self._format.plain  # a text of its own gets the beginning that texts get
            self._tokens = tuple(extended(self._tokenizer, self._tokens, self._new, whole=whole))
            self._new = []
        return self._tokens

    def _begin(self, opening: tuple[Part, ...]) -> None:
        """Write the opening of the turn, unless it is there."""
        if self._begun:
            return
        self._begun = True
        bos = self._tokenizer.bos_id
        doubled = len(self._roles) == 1 and opening[:1] == (bos,) == self._tokens[:1]  # the text before it has one
        self._new += opening[1:] if doubled else opening

    def _rewrite(self) -> None:
        """Write the whole conversation anew, as its template now wants it."""
        self._anew = False
        messages = [{"role": role, "content": said} for role, said in zip(self._roles, self._said, strict=True)]
        try:
            parts = self._format.whole(messages, open_turn=self._marks is not None)
        except InvalidRequest:
            return  # the template takes no such conversation: it stays as it was written turn by turn
        self._tokens, self._new = tuple(extended(self._tokenizer, (), parts)), []
        self._begun = True

    def _thoughts_before(self) -> bool:
        return any(THOUGHT in said for role, said in zip(self._roles, self._said, strict=True) if role == "assistant")

    def _spelled(self, parts: Sequence[Part]) -> str:
        spell = self._tokenizer.token_bytes
        return "".join(part if isinstance(part, str) else spell(part).decode(errors="replace") for part in parts)


def extended(tokenizer: Tokenizer, tokens: Sequence[int], parts: Sequence[Part], *, whole: bool = False) -> list[int]:
    """`tokens` followed by texts and control tokens; texts next to each other are one text.

    `whole`: text at the very beginning gets what the model wants before a text; a template's does not.
    """
    ids = list(tokens)
    for part in _joined(parts):
        if isinstance(part, int):
            ids.append(part)
        elif not ids:
            ids = tokenizer.encode(part) if whole else tokenizer.encode_parts([part])
        elif ids[-1] in tokenizer.special_ids:
            ids += tokenizer.encode_parts([ids[-1], part])[1:]
        else:
            ids = tokenizer.append(ids, part)
    return ids


@dataclass(frozen=True, slots=True)
class Written:
    """What a generation adds to a stream."""

    text: str  # what the user gets: the generation's, without half a character at its end
    kept: tuple[int, ...]  # the generated tokens that this text has whole
    rest: str  # what is left of it: a stop may have cut in the middle of a token


def written(tokenizer: Tokenizer, token_ids: Sequence[int], text: str) -> Written:
    """Brings a generation's tokens and text together.

    Control tokens count as no text; those at the end are left out, since the text ended before them.
    """
    spell, special = tokenizer.token_bytes, tokenizer.special_ids
    kept = shown = characters = 0
    pending = b""  # the beginning of a character
    for index, token in enumerate(token_ids):
        if token in special:
            continue
        piece = spell(token)
        found, left = _decoded(pending + piece)
        alone = _decoded(piece)
        if pending and (found, left) == ("\ufffd" + alone[0], alone[1]) and characters < len(text):
            kept, shown = index, characters + 1  # the beginning never became a character
        characters, pending = characters + len(found), left
        if characters > len(text):
            break
        if not pending:
            kept, shown = index + 1, characters
    else:
        if pending and len(text) > characters:  # it was cut within a character, which the stream then never began
            text = text.removesuffix("\ufffd")
    return Written(text, tuple(token_ids[:kept]), text[shown:])


def _decoded(data: bytes) -> tuple[str, bytes]:
    """The characters that are certain, and the beginning of one that may follow them."""
    text, used = codecs.utf_8_decode(data, "replace", False)
    return text, data[used:]


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if texts:
            yield "".join(texts)
            texts.clear()
        yield part
    if texts:
        yield "".join(texts)
