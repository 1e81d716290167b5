"""OpenVINO GenAI: continuous batching with prefix caching, on the exported model."""

from __future__ import annotations

import importlib.metadata
import json

import numpy
import openvino
import openvino_genai
from measuring import main
from protocol import Adapter, Completion, Job, Request


class OpenVinoAdapter(Adapter):
    """`ContinuousBatchingPipeline.generate` on token ids."""

    def __init__(self, job: Job) -> None:
        self.path = job.paths["model"]
        self.properties = {
            "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": "bf16",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.batched_tokens = int(job.options["batched_tokens"])
        self.settings = {
            "weights": job.options["weights"],
            "activations": "bf16",
            "prefix caching": "on",
            "max_num_batched_tokens": self.batched_tokens,
            "cache": "4 GB",
            **self.properties,
        }
        self.versions = {name: importlib.metadata.version(name) for name in ("openvino-genai", "openvino")}
        self.pipeline = self.build()
        self.tokenizer = self.pipeline.get_tokenizer()

    def build(self) -> openvino_genai.ContinuousBatchingPipeline:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.dynamic_split_fuse = True
        scheduler.cache_size = 4
        scheduler.max_num_batched_tokens = self.batched_tokens
        return openvino_genai.ContinuousBatchingPipeline(self.path, scheduler, "CPU", self.properties)

    def generate(self, requests: list[Request]) -> list[Completion]:
        inputs = [openvino.Tensor(numpy.array([request.tokens], dtype=numpy.int64)) for request in requests]
        results = self.pipeline.generate(inputs, [generation_config(request) for request in requests])
        completions = []
        for request, result in zip(requests, results, strict=True):
            tokens = list(result.m_generation_ids[0])
            text = self.tokenizer.decode(tokens) if request.schema else ""
            completions.append(Completion(tokens=tokens, text=text))
        return completions


def generation_config(request: Request) -> openvino_genai.GenerationConfig:
    """Greedy, of exactly the length asked for (or up to it, inside a schema)."""
    config = openvino_genai.GenerationConfig()
    config.do_sample = False
    config.max_new_tokens = request.max_tokens
    config.apply_chat_template = False
    if request.schema:
        config.eos_token_id = 2
        config.structured_output_config = openvino_genai.StructuredOutputConfig(json_schema=json.dumps(request.schema))
    else:
        config.ignore_eos = True
    return config


if __name__ == "__main__":
    main(OpenVinoAdapter)
