"""Text to token ids and back, with the exact bytes of every token; only the tokenizers library is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ...errors import BrokenModelFile, InvalidRequest, ModelNotFound, UnsupportedModel
from ...grammars.token_bytes import spelling_of
from ..weights.checkpoint import Checkpoint
from ..weights.fields import Fields
from ..weights.gguf_file import GgufFile
from ..weights.gguf_vocabulary import building, tokenizer_from_gguf
from ..weights.safetensors import read_json
from .token_boundary import append_text

# Tokens that end an answer in the chat formats there are; files often name only one of a model's.
_END_TOKENS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "</s>"),
    *("<end_of_turn>", "<eos>", "<EOT>", "<|eot|>", "<|END_OF_TURN_TOKEN|>"),
)


MAX_DEFINITION_BYTES = 1 << 27


class Tokenizer:
    """One model's tokenizer. Immutable, and safe from many threads.

    Made by `load_tokenizer`. Special tokens written in a text are text, unless a call says otherwise.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        bos_id: int | None = None,
        eos_ids: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # special tokens in a text are text
        self._backend = backend
        self.name = name
        self.chat_template = chat_template
        self.bos_id = bos_id
        self.special_ids = frozenset(self._specials)
        ends = [backend.token_to_id(end) for end in _END_TOKENS]
        known = [token for token in ends if token is not None and token in self.special_ids]
        self.eos_ids = tuple(dict.fromkeys([*eos_ids, *known]))

    def __repr__(self) -> str:
        return f"<ramify.Tokenizer {self.name}, {self.vocabulary_size} tokens>"

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the highest id; a model's logits may have more columns than this."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, *, add_special_tokens: bool = True, special_text: bool = False) -> list[int]:
        """The ids of a text. `add_special_tokens`: with what the model wants around it (at most one BOS).

        `special_text`: special tokens written in the text become those tokens. Raises InvalidRequest for a lone
        surrogate, which no encoding can carry.
        """
        return self.encode_batch([text], add_special_tokens=add_special_tokens, special_text=special_text)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, special_text: bool = False
    ) -> list[list[int]]:
        """`encode` for many texts, on all cores."""
        for index, text in enumerate(texts):
            _check_text(text, f"text {index}" if len(texts) > 1 else "the text")
        backend = self._special_backend if special_text else self._backend
        if len(texts) == 1:
            rows = [backend.encode(texts[0], add_special_tokens=add_special_tokens).ids]
        else:
            rows = [row.ids for row in backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)]
        return [self._one_bos(row) for row in rows] if add_special_tokens else rows

    def encode_continuation(self, text: str) -> list[int]:
        """The ids of a text that follows other tokens: no special tokens, and no space that only beginnings get."""
        _check_text(text, "the text")
        return self._continuation_backend.encode(text, add_special_tokens=False).ids

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """The ids of a text in which the special tokens, given as ids, are already known; the rest is text."""
        ids: list[int] = []
        for index, part in enumerate(parts):
            if isinstance(part, int):
                ids.append(part)
            elif part:
                _check_text(part, "the text")
                backend = self._part_backend if index else self._backend
                ids += backend.encode(part, add_special_tokens=False).ids
        return ids

    def append(self, tokens: Sequence[int], text: str) -> list[int]:
        """`tokens` followed by `text`, its special tokens as text; only the meeting point is encoded anew."""
        return append_text(self, tokens, text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of some ids; bytes that are no UTF-8 become U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes of one token, special or not; empty for an id without a token."""
        return self._all_bytes[token] if 0 <= token < len(self._all_bytes) else b""

    def token_id(self, content: str) -> int | None:
        """The id of a token as the vocabulary spells it, e.g. of "<|im_end|>"."""
        return self._backend.token_to_id(content)

    def special_tokens(self) -> dict[str, int]:
        """The special tokens' texts and ids."""
        return {entry.content: token for token, entry in self._specials.items()}

    def split_special(self, text: str) -> list[str | int]:
        """The text cut at every special token written in it: `encode_parts` of that is the ids with them acting."""
        by_text = {entry.content: (token, entry) for token, entry in self._specials.items()}
        parts: list[str | int] = []
        position = 0
        for found in self._special_pattern.finditer(text):
            token, entry = by_text[found[0]]
            before = text[position : found.start()]
            position = found.end()
            if entry.rstrip:  # the token takes the spaces around it along
                position += len(text[position:]) - len(text[position:].lstrip())
            parts += [before.rstrip() if entry.lstrip else before, token]
        return [part for part in [*parts, text[position:]] if part != ""]

    @cached_property
    def _specials(self) -> dict[int, AddedToken]:
        return {token: entry for token, entry in self._backend.get_added_tokens_decoder().items() if entry.special}

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        contents = sorted((entry.content for entry in self._specials.values() if entry.content), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, contents)) or "(?!)")

    @cached_property
    def _all_bytes(self) -> list[bytes]:
        added = self._backend.get_added_tokens_decoder()
        spelling = spelling_of(_definition(self._backend.decoder))
        found = [b""] * self.vocabulary_size
        for content, token in self._backend.get_vocab(with_added_tokens=True).items():
            found[token] = spelling(content) if token not in added else added[token].content.encode()
        return found

    @cached_property
    def _special_backend(self) -> Backend:
        """The same, but special tokens in a text are tokens; made when it is first wanted."""
        backend = Backend.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def _part_backend(self) -> Backend:
        """For text behind a special token: SentencePiece's space before the very first word is not for it."""
        return self._without_prefix(lambda step: step.get("prepend_scheme") == "first")

    @cached_property
    def _continuation_backend(self) -> Backend:
        """For text in the middle of a text: no space is put before it at all."""
        return self._without_prefix(lambda step: step.get("type") in ("Metaspace", "Prepend"))

    def _without_prefix(self, applies: Callable[[dict[str, Any]], bool]) -> Backend:
        """A backend whose steps that put a space in front, and to which this applies, do so no more."""
        changed: dict[str, Any] = {}
        for name, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
            stage = _definition(getattr(self._backend, name))
            for step in stage.get(inner, [stage]):
                if step.get("type") in ("Metaspace", "Prepend") and applies(step):
                    step |= {"prepend_scheme": "never"} if step["type"] == "Metaspace" else {"prepend": ""}
                    changed[name] = stage
        if not changed:
            return self._backend
        backend = Backend.from_str(json.dumps(json.loads(self._backend.to_str()) | changed))
        backend.encode_special_tokens = True
        return backend

    def _one_bos(self, ids: list[int]) -> list[int]:
        doubled = len(ids) > 1 and ids[0] == ids[1] == self.bos_id
        return ids[1:] if doubled else ids


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of an opened model. Raises BrokenModelFile, UnsupportedModel or ModelNotFound."""
    if checkpoint.gguf is not None:
        return tokenizer_of_gguf(checkpoint.gguf, checkpoint.name, checkpoint.config.eos_ids)
    return tokenizer_of_directory(checkpoint.path, checkpoint.name, checkpoint.config.eos_ids)


def tokenizer_of_gguf(file: GgufFile, name: str, eos_ids: Iterable[int] = ()) -> Tokenizer:
    """From a GGUF file's metadata."""
    fields = Fields(file.metadata, file.name)
    backend = tokenizer_from_gguf(file)
    return Tokenizer(
        backend,
        name=name,
        bos_id=fields.integer("tokenizer.ggml.bos_token_id", None, low=0),
        eos_ids=eos_ids,
        chat_template=fields.text("tokenizer.chat_template", None),
    )


def tokenizer_of_directory(directory: Path, name: str, eos_ids: Iterable[int] = ()) -> Tokenizer:
    """From tokenizer.json, with tokenizer_config.json's special tokens and chat template where there are any."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelNotFound(
            f"{directory.name}: there is no tokenizer.json. Save the model's tokenizer in that format (its fast form)"
        )
    backend = _backend_from(path)
    config_path = directory / "tokenizer_config.json"
    config = Fields(read_json(config_path) if config_path.is_file() else {}, config_path.name)
    named = {key: _content(config.values.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    present = [content for content in named.values() if content and backend.token_to_id(content) is not None]
    backend.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in present])
    bos_id, eos_id = (backend.token_to_id(named[key] or "") for key in ("bos_token", "eos_token"))
    return Tokenizer(
        backend,
        name=name,
        bos_id=bos_id,
        eos_ids=[*([] if eos_id is None else [eos_id]), *eos_ids],
        chat_template=_chat_template(directory, config),
    )


def _backend_from(path: Path) -> Backend:
    if path.stat().st_size > MAX_DEFINITION_BYTES:
        raise BrokenModelFile(
            f"{path.name}: larger than {MAX_DEFINITION_BYTES} bytes, so it is no tokenizer definition"
        )
    with building(path.name):
        backend = Backend.from_file(str(path))
    kind = type(backend.model).__name__
    if kind not in ("BPE", "Unigram"):
        raise UnsupportedModel(f"{path.name}: tokenizer model {kind}; ramify runs BPE and Unigram")
    return backend


def _definition(stage: Any) -> dict[str, Any]:
    """A part of a backend as tokenizer.json would hold it: the state it would be pickled with is that JSON."""
    definition: dict[str, Any] = json.loads(stage.__getstate__()) if stage else {}
    return definition


def _content(value: Any) -> str | None:
    """A special token in tokenizer_config.json: text, or a mapping with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _chat_template(directory: Path, config: Fields) -> str | None:
    """chat_template.jinja, or the template in tokenizer_config.json (of several, the one called default)."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        if path.stat().st_size > 1 << 20:
            raise BrokenModelFile(f"{path.name}: larger than {1 << 20} bytes, so it is no chat template")
        return path.read_text(encoding="utf-8", errors="strict")
    value = config.values.get("chat_template")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _check_text(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"{where} must be a string, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{where} has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, which is no "
            "character; remove it or replace it by U+FFFD"
        ) from None
