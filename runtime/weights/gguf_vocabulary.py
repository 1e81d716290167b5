"""Makes a tokenizer out of a GGUF file's metadata, which lists the tokens and names the rules but does not hold them.

How a text is cut before merging is only named in the file (tokenizer.ggml.pre). What the names mean is taken from the
models' own published tokenizer.json files, which is what the models were trained with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from ...errors import BrokenModelFile, ModelError, UnsupportedModel
from .fields import Fields
from .gguf_file import GgufFile

MAX_TOKENS = 1 << 22
MAX_TOKEN_CHARACTERS = 1 << 10
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # values of tokenizer.ggml.token_type
_SPACE = "▁"  # how SentencePiece writes a space

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# llama.cpp's own rule for files that name none: no published tokenizer stands behind it.
_DEFAULT_SPLITS = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)
_SPLITS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "smaug-bpe", "dbrx"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _QWEN2),
    "tekken": _TEKKEN,
}
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken")  # BPE's ignore_merges
_BOS_BY_DEFAULT = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken")
_DIGITS_THEN_GPT2 = ("smollm", "starcoder", "refact", "codeshell", "command-r")
_GPT2 = ("gpt-2", "phi-2", "jais", "olmo", "mpt", "roberta-bpe", "gigachat")
PRE_TOKENIZERS = (*_SPLITS, *_DIGITS_THEN_GPT2, *_GPT2, "default")


def tokenizer_from_gguf(file: GgufFile) -> Tokenizer:
    """The tokenizer that the metadata describes. Raises BrokenModelFile or UnsupportedModel."""
    fields = Fields(file.metadata, file.name)
    tokens = _tokens(file)
    kinds = _numbers(file, "tokenizer.ggml.token_type", len(tokens))
    kind = fields.text("tokenizer.ggml.model")
    with building(file.name):
        if kind == "gpt2":
            pre = fields.text("tokenizer.ggml.pre", "default")
            tokenizer = _byte_level(file, tokens, pre)
            add_bos = fields.boolean("tokenizer.ggml.add_bos_token", pre in _BOS_BY_DEFAULT)
        elif kind == "llama":
            tokenizer = _sentence_piece(file, tokens, fields)
            add_bos = fields.boolean("tokenizer.ggml.add_bos_token", True)
        else:
            raise UnsupportedModel(f"{file.name}: tokenizer {kind[:40]!r}; ramify reads gpt2 and llama (SentencePiece)")
        # all at once: each call builds the automaton that finds them anew
        marked = list(zip(tokens, kinds, strict=True))
        special = [token for token, mark in marked if mark in (_UNKNOWN, _CONTROL)]
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        whole = [token for token, mark in marked if mark == _USER_DEFINED and token.strip(_SPACE)]
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in whole])
        if add_bos:
            bos = tokens[fields.integer("tokenizer.ggml.bos_token_id", low=0, high=len(tokens) - 1)]
            tokenizer.post_processor = TemplateProcessing(
                single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, tokenizer.token_to_id(bos))]
            )
    if tokenizer.get_vocab_size() != len(tokens):
        raise BrokenModelFile(f"{file.name}: its tokenizer does not have {len(tokens)} tokens once it is built")
    return tokenizer


@contextmanager
def building(where: str) -> Iterator[None]:
    """Turn whatever the tokenizers library raises for a definition it cannot use into BrokenModelFile.

    It raises plain Exception, and its panics are no Exceptions at all.
    """
    try:
        yield
    except ModelError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BrokenModelFile(f"{where}: its tokenizer cannot be built ({str(error)[:200]})") from None


def _byte_level(file: GgufFile, tokens: list[str], pre: str) -> Tokenizer:
    """GPT-2's kind: bytes written as printable characters, merged by a list."""
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedModel(
            f"{file.name}: pre-tokenizer {pre[:40]!r} is not known; ramify has {', '.join(PRE_TOKENIZERS)}. "
            "A Hugging Face directory brings its own rules"
        )
    merges = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise BrokenModelFile(f"{file.name}: tokenizer.ggml.merges is missing or no list of text")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    wrong = next((merge for merge, pair in zip(merges, pairs, strict=True) if len(pair) != 2), None)
    if wrong is not None:
        raise BrokenModelFile(f"{file.name}: tokenizer.ggml.merges holds {wrong[:40]!r}, which is not a pair")
    model = models.BPE(vocab=_ids(tokens), merges=pairs, ignore_merges=pre in _WHOLE_WORDS_FIRST)
    tokenizer = Tokenizer(model)
    if pre in ("qwen2", "deepseek-r1-qwen", "megrez"):
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any]
    if pre in _SPLITS:
        steps = [pre_tokenizers.Split(Regex(_SPLITS[pre]), "isolated"), _bytes(use_regex=False)]
    elif pre in _DIGITS_THEN_GPT2:
        steps = [pre_tokenizers.Digits(individual_digits=True), _bytes(use_regex=True)]
    elif pre in _GPT2:
        steps = [_bytes(use_regex=True)]
    else:
        steps = [pre_tokenizers.Split(Regex(split), "isolated") for split in _DEFAULT_SPLITS]
        steps.append(_bytes(use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_piece(file: GgufFile, tokens: list[str], fields: Fields) -> Tokenizer:
    """SentencePiece's BPE: spaces written as ▁, characters outside the vocabulary as bytes."""
    gemma = str(file.metadata.get("general.architecture")).startswith("gemma")
    if gemma:  # runs of spaces are tokens, written with real spaces; merges go by position, not by score
        tokens[:] = [_SPACE * len(token) if " " in token and not token.strip(" ") else token for token in tokens]
        order = [float(-index) for index in range(len(tokens))]
    else:
        order = [float(score) for score in _numbers(file, "tokenizer.ggml.scores", len(tokens))]
    vocabulary = _ids(tokens)
    unknown = tokens[fields.integer("tokenizer.ggml.unknown_token_id", 0, low=0, high=len(tokens) - 1)]
    merges = _merges(vocabulary, order)
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    ending: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        prefix = fields.boolean("tokenizer.ggml.add_space_prefix", True)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            _SPACE, prepend_scheme="first" if prefix else "never", split=False
        )
        ending += [decoders.Strip(" ", left=1)] if prefix else []
    tokenizer.decoder = decoders.Sequence(ending)
    return tokenizer


def _merges(vocabulary: Mapping[str, int], order: list[float]) -> list[tuple[str, str]]:
    """The pairs that make each token, the best token first: SentencePiece keeps scores where BPE keeps a list."""
    found: list[tuple[float, int, int, str, str]] = []
    for token, index in vocabulary.items():
        pairs = [
            (token[:cut], token[cut:])
            for cut in range(1, len(token))
            if token[:cut] in vocabulary and token[cut:] in vocabulary
        ]
        pairs.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found += [(order[index], len(left), len(right), left, right) for left, right in pairs]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [(left, right) for _, _, _, left, right in found]


def _tokens(file: GgufFile) -> list[str]:
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= MAX_TOKENS:
        raise BrokenModelFile(f"{file.name}: tokenizer.ggml.tokens is missing, empty or absurdly long")
    if max(map(len, tokens)) > MAX_TOKEN_CHARACTERS:
        raise BrokenModelFile(
            f"{file.name}: tokenizer.ggml.tokens holds a token above {MAX_TOKEN_CHARACTERS} characters"
        )
    if len(set(tokens)) != len(tokens):
        raise BrokenModelFile(f"{file.name}: tokenizer.ggml.tokens lists a token twice")
    return list(tokens)


def _numbers(file: GgufFile, key: str, count: int) -> list[Any]:
    """A list of `count` numbers; all zero where the file has none."""
    values = file.metadata.get(key)
    if values is None:
        return [0] * count
    if not hasattr(values, "tolist") or len(values) != count:
        raise BrokenModelFile(f"{file.name}: {key} must hold {count} numbers, one for each token")
    numbers: list[Any] = values.tolist()
    return numbers


def _ids(tokens: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _bytes(*, use_regex: bool) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
