"""Hugging Face transformers in bf16, batched, without any reuse between requests: the plain way to run a model."""

from __future__ import annotations

import importlib.metadata
import json

import torch
import xgrammar
import xgrammar.contrib.hf
from measuring import main
from protocol import Adapter, Completion, Job, Request
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_TOKENS = 16384  # prompt tokens padded into one batch; more only costs memory


class TransformersAdapter(Adapter):
    """`generate` on left-padded batches, sorted by length."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self.model = AutoModelForCausalLM.from_pretrained(
            job.paths["model"], dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(job.paths["model"])
        vocabulary = xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=self.model.config.vocab_size)
        self.compiler = xgrammar.GrammarCompiler(vocabulary)
        self.settings = {
            "weights": "bf16",
            "attention": "sdpa",
            "structured output": "xgrammar",
            "batching": f"static, {BATCH_TOKENS} prompt tokens",
        }
        self.versions = {name: importlib.metadata.version(name) for name in ("transformers", "torch")}

    def generate(self, requests: list[Request]) -> list[Completion]:
        results: dict[int, Completion] = {}
        waiting = sorted(range(len(requests)), key=lambda i: (requests[i].max_tokens, len(requests[i].tokens)))
        while waiting:
            longest, batch = 0, []
            for index in waiting:
                longest = max(longest, len(requests[index].tokens))
                same = requests[index].max_tokens == requests[waiting[0]].max_tokens
                if batch and (not same or longest * (len(batch) + 1) > BATCH_TOKENS):
                    break
                batch.append(index)
            waiting = waiting[len(batch) :]
            results.update(zip(batch, self.run_batch([requests[i] for i in batch]), strict=True))
        return [results[index] for index in range(len(requests))]

    def run_batch(self, requests: list[Request]) -> list[Completion]:
        width = max(len(request.tokens) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.long)  # [batch, width], padded on the left
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.tokens) :] = torch.tensor(request.tokens)
            mask[row, width - len(request.tokens) :] = 1
        count, schema = requests[0].max_tokens, requests[0].schema
        ending = self.tokenizer.eos_token_id if schema else None
        processors = []
        if schema:
            grammar = self.compiler.compile_json_schema(json.dumps(schema))
            processors.append(xgrammar.contrib.hf.LogitsProcessor(grammar))
        with torch.inference_mode():
            output = self.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=count,
                min_new_tokens=0 if schema else count,
                do_sample=False,
                eos_token_id=ending,
                pad_token_id=0,
                logits_processor=processors,
            )
        rows = output[:, width:].tolist()
        if schema:
            rows = [row[: row.index(ending)] if ending in row else row for row in rows]
        texts = self.tokenizer.batch_decode(rows) if schema else [""] * len(rows)
        return [Completion(tokens=row, text=text, cached_tokens=0) for row, text in zip(rows, texts, strict=True)]


if __name__ == "__main__":
    main(TransformersAdapter)
