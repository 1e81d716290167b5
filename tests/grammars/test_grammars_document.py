"""docs/grammars.md says what is true: its programs run, in order, against a small model of transformers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "grammars.md").read_text()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("1", "9"), ("0", "1"), ("-", "0"), ("t", "h")]
    vocabulary = {token: at for at, token in enumerate([*letters, *("".join(pair) for pair in pairs)])}
    raw = Tokenizer(models.BPE(vocabulary, pairs))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken("</s>", special=True)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


def test_every_program_runs(tokenizer: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer) + 7,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    names: dict[str, Any] = {
        "re": re,
        "torch": torch,
        "numpy": numpy,
        "transformers": transformers,
        "tokenizer": tokenizer,
        "model": transformers.LlamaForCausalLM(config).eval(),
        "prompt": torch.tensor([tokenizer.encode("the date: ")]),
    }
    programs = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(programs) == 5
    for number, program in enumerate(programs):
        file = tmp_path / f"program{number}.py"
        file.write_text(program)
        names |= runpy.run_path(str(file), names)
        if number == 1:
            assert names["matcher"].accept_bytes(b'{"name": "Ada", ') and names["matcher"].forced() == b'"age": '
    text = tokenizer.decode(names["output"][0, names["prompt"].shape[1] :], skip_special_tokens=True)
    assert re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", text)
    assert names["output"][0, -1] == tokenizer.eos_token_id
