"""Strings of every kind that has ever upset a tokenizer, made from a seed."""

from __future__ import annotations

import random

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    "०१२३٣٤Ⅷ½²①",
    "     \t\n\r",
    "\u00a0\u2003\u3000\u2028\u200b\ufeff\x0b\x0c\x85\x1c",
    "漢字日本語中文テストひらがな한국어",
    "éàüßñçøåœÆ",
    "e\u0301o\u0308n\u0303 \u0915\u094d\u0937",
    "🙂🎉👩‍👩‍👧‍👦🇩🇪✈️",
    "\x00\x01\x02\x1b\x7f\x80\x9f",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "עברית العربية",
    "\U00010348\U0001f9ff\U000e0001\ufffd\ue000",
)
PIECES = (
    *("the", "The", "'s", "'S", "'re", " n't", "don't", "I'll", "it", "was", "told", "over", "brown fox", " lazy"),
    *("def", "return", "import", "    ", "\n\n", "\r\n", "self.", "==", "->", "{", "}", "();", "<div>", "http://"),
    *("x=1", "123456", "3.14", "1,000", "  ", "   ", "\t\t", "▁", "Ġ", "<0x0A>", "é", "日本", "🙂", "ﬁ", "Å", "İ"),
    *("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<repo_name>", "</s>", "<s>", "<bos>", "<|eot_id|>"),
)
REPEATED = (" ", "\n", "\t", "a", "1", "é", "🙂", "=", "\r\n")


def varied_texts(count: int, seed: int = 0) -> list[str]:
    """`count` strings: mixed and pure alphabets, pieces of text and code joined with and without spaces, long runs."""
    choose = random.Random(seed)
    texts = []
    for index in range(count):
        if index % 5 == 0:
            text = "".join(choose.choice(choose.choice(ALPHABETS)) for _ in range(choose.randint(0, 40)))
        elif index % 5 == 1:
            text = "".join(choose.choice(PIECES) for _ in range(choose.randint(1, 20)))
        elif index % 5 == 2:
            text = " ".join(choose.choice(PIECES) for _ in range(choose.randint(1, 20)))
        elif index % 5 == 3:
            alphabet = choose.choice(ALPHABETS)
            text = "".join(choose.choice(alphabet) for _ in range(choose.randint(1, 60)))
        else:
            text = choose.choice(REPEATED) * choose.randint(1, 200) + choose.choice(PIECES)
        texts.append(text)
    return texts
