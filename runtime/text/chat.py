"""Conversations to token ids, in the model's own format; what people wrote in them stays text.

A template writes control tokens (<|im_end|>) as text, and so can a user. Before rendering, control tokens in messages
are replaced by private-use characters, so every control token found afterwards is the template's own:

    messages --(hide)--> template --(split at control tokens)--> ids and texts --(unhide)--> ids
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import InvalidRequest
from .template_sandbox import SECONDS, BoundedTemplate
from .tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_MESSAGES = 100_000
_MAX_DEPTH = 32  # of tool calls and their arguments
_PRIVATE = range(0xF0000, 0xFFFFE)  # characters that mean nothing anywhere

Message = Mapping[str, Any]


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """The ids of a conversation; `add_generation_prompt` ends them where the assistant is to speak.

    A message is {"role": ..., "content": text or a list of {"type": "text", "text": ...}}. Models without a template
    get SYSTEM:, USER: and ASSISTANT:. Raises InvalidRequest, naming the message by index, or BrokenModelFile.
    """
    parts = chat_parts(tokenizer, messages, add_generation_prompt, tools=tools)
    if tokenizer.chat_template is None:
        return tokenizer.encode("".join(map(str, parts)))
    return tokenizer.encode_parts(parts)


def chat_parts(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[str | int]:
    """A conversation as the template writes it: control tokens as ids, and the texts between them.

    Without a template it is one text. Raises as `render_chat` does.
    """
    checked = _checked(messages)
    if tokenizer.chat_template is None:
        return [_plain(checked, add_generation_prompt)]
    template = _template(tokenizer.chat_template, tokenizer.name)
    written = {"messages": checked, "tools": [_copied(tool, "tools") for tool in tools] if tools else None}
    constants = {
        "add_generation_prompt": add_generation_prompt,
        "bos_token": _spelled(tokenizer, [] if tokenizer.bos_id is None else [tokenizer.bos_id]),
        "eos_token": _spelled(tokenizer, tokenizer.eos_ids),
    }
    size, seconds = sum(map(len, _texts(written))), SECONDS + len(checked) / 1000
    specials = tokenizer.special_tokens()

    def rendered(disguise: _Disguise) -> list[str | int]:
        text = template.render({**constants, **disguise.hide(written)}, characters=size, seconds=seconds)
        return [disguise.show(part) if isinstance(part, str) else part for part in tokenizer.split_special(text)]

    whole = _Disguise(specials, written)
    parts = rendered(whole)
    # A template may cut and join what people wrote so that pieces of a control token meet. Without a single one of
    # their first letters that cannot happen: where it makes a difference, that rendering is the right one.
    letters = {special[0] for special in specials if special}
    if any(letter in text for text in _texts(whole.hide(written)) for letter in letters):
        strict = rendered(_Disguise(letters, written))
        if _ids(strict) != _ids(parts):
            parts = strict
    return parts


class _Disguise:
    """Writes given texts as single private-use characters that occur nowhere else, and back."""

    def __init__(self, names: Iterable[str], written: Any) -> None:
        used = {character for text in _texts(written) for character in text if ord(character) in _PRIVATE}
        free = (chr(code) for code in _PRIVATE if chr(code) not in used)
        self._mask = dict(zip(sorted((name for name in names if name), key=len, reverse=True), free, strict=False))
        self._names = {mask: name for name, mask in self._mask.items()}
        self._hidden = re.compile("|".join(map(re.escape, self._mask)) or "(?!)")

    def hide(self, value: Any) -> Any:
        """A copy with the names hidden, in keys as well; roles are ours."""
        if isinstance(value, str):
            return self._hidden.sub(lambda found: self._mask[found[0]], value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.hide(entry) for entry in value]
        return value

    def show(self, text: str) -> str:
        """The text with the names back in it."""
        return "".join(self._names.get(character, character) for character in text)


def _ids(parts: list[str | int]) -> list[int]:
    return [part for part in parts if isinstance(part, int)]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(key)
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


@lru_cache(maxsize=16)
def _template(source: str, name: str) -> BoundedTemplate:
    return BoundedTemplate(source, name)


def _plain(messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    lines = [f"{message['role'].upper()}: {message['content']}\n" for message in messages]
    return "".join([*lines, "ASSISTANT:" if add_generation_prompt else ""])


def _spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.token_bytes(ids[0]).decode(errors="replace") if ids else ""


def _checked(messages: object) -> list[dict[str, Any]]:
    """Copies of the messages with their contents as text. Raises InvalidRequest naming the one that is wrong."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InvalidRequest('messages must be a list with at least one {"role": ..., "content": ...}')
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"messages: {len(messages)} of them; {MAX_MESSAGES} are the most")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequest(f'{where} must be a mapping like {{"role": "user", "content": "..."}}')
    role = message.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"{where}: role is {role!r:.40}, but must be one of {', '.join(ROLES)}")
    checked: dict[str, Any] = _copied(message, where)
    if "content" not in message and "tool_calls" not in message:
        raise InvalidRequest(f"{where}: content is missing")
    checked["content"] = _content(message.get("content"), where)
    return checked


def _content(content: object, where: str) -> str:
    if content is None:  # an assistant's message that is only a tool call
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InvalidRequest(f"{where}: content must be text or a list of parts, not {type(content).__name__}")
    texts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            raise InvalidRequest(f'{where}: content[{index}] must be {{"type": "text", "text": "..."}}')
        texts.append(text)
    return "".join(texts)


def _copied(value: object, where: str, depth: int = 0) -> Any:
    """Plain data only, copied: what a template gets to see has no methods of the caller's."""
    if depth > _MAX_DEPTH:
        raise InvalidRequest(f"{where}: nested deeper than {_MAX_DEPTH}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{where}: a lone surrogate at character {error.start}, which is no character; remove it"
            ) from None
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_copied(key, where, depth + 1): _copied(entry, where, depth + 1) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_copied(entry, where, depth + 1) for entry in value]
    raise InvalidRequest(f"{where}: {type(value).__name__} is no plain data (text, numbers, lists, mappings)")
