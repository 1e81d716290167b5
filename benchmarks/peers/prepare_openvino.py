"""Export a checkpoint to OpenVINO's format, offline: bf16 weights, or int8 weights by NNCF.

python prepare_openvino.py CHECKPOINT DIRECTORY bf16|int8
"""

from __future__ import annotations

import sys
from pathlib import Path

from openvino import save_model
from openvino_tokenizers import convert_tokenizer
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
from transformers import AutoTokenizer


def main(checkpoint: Path, target: Path, precision: str) -> None:
    """Export the model and the tokenizer pair that OpenVINO GenAI loads beside it."""
    quantization = OVWeightQuantizationConfig(bits=8) if precision == "int8" else None
    model = OVModelForCausalLM.from_pretrained(
        checkpoint, export=True, stateful=True, compile=False, load_in_8bit=False, quantization_config=quantization
    )
    model.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.save_pretrained(target)
    encoder, decoder = convert_tokenizer(tokenizer, with_detokenizer=True)
    save_model(encoder, target / "openvino_tokenizer.xml")
    save_model(decoder, target / "openvino_detokenizer.xml")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
