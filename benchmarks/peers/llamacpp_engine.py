"""llama.cpp's HTTP server with slots, continuous batching and prompt caching.

The server is the one built for this processor; without a compiler, the one in the ready-made `xllamacpp` wheel.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measuring import main
from protocol import Adapter, Completion, Job, Request

CLIENTS = 64  # connections at a time; the server queues what its slots cannot take
CONTEXT_PER_SLOT = 2560
START_SECONDS = 120


class LlamaCppAdapter(Adapter):
    """Requests over HTTP to a server that is started anew before each run, so nothing is warm."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.slots = int(job.options["slots"])
        self.server: Any = None
        self.built = "server" in job.paths
        self.settings = {
            "weights": job.options["weights"],
            "server": "llama-server, built for this processor" if self.built else "xllamacpp wheel (generic x86-64)",
            "slots": f"{self.slots}, 32 for D32",
            "prompt caching": "on",
            "flash attention": "on",
            "batch": "2048, micro-batch 512",
        }
        package = "llama-cpp-python 0.3.36 (source)" if self.built else importlib.metadata.version("xllamacpp")
        self.versions = {"llama.cpp in": package}
        self.reset()

    def begin(self, workload: str) -> None:
        self.slots = 32 if workload == "D32" else int(self.job.options["slots"])

    def reset(self) -> None:
        self.close()
        if self.built:
            self.port = free_port()
            self.server = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.wait_until_ready()
        else:
            self.server = embedded_server(self.job, self.slots)
            self.port = int(str(self.server.listening_address).rsplit(":", 1)[1])

    def command(self) -> list[str]:
        """The command line of the server."""
        threads = str(self.job.threads)
        options = {
            "--model": self.job.paths["gguf"],
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--threads": threads,
            "--threads-batch": threads,
            "--parallel": str(self.slots),
            "--ctx-size": str(self.slots * CONTEXT_PER_SLOT),
            "--batch-size": "2048",
            "--ubatch-size": "512",
            "--flash-attn": "on",
        }
        return [self.job.paths["server"], *(part for pair in options.items() for part in pair)]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                if self.ask("GET", "/health", None)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"llama-server did not come up (exit code {self.server.poll()})")

    def ask(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()

    def generate(self, requests: list[Request]) -> list[Completion]:
        with ThreadPoolExecutor(min(CLIENTS, len(requests))) as clients:
            return list(clients.map(self.complete, requests))

    def complete(self, request: Request) -> Completion:
        body: dict[str, Any] = {
            "prompt": request.tokens,
            "n_predict": request.max_tokens,
            "temperature": 0.0,
            "samplers": ["top_k"],
            "top_k": 1,
            "cache_prompt": True,
            "return_tokens": True,
        }
        body |= {"json_schema": request.schema} if request.schema else {"ignore_eos": True}
        status, answer = self.ask("POST", "/completion", body)
        if status != 200:
            raise RuntimeError(f"HTTP {status}: {str(answer)[:200]}")
        return Completion(
            tokens=answer["tokens"], text=answer["content"], cached_tokens=answer.get("timings", {}).get("cache_n")
        )

    def processes(self) -> list[int]:
        return [self.server.pid] if self.built else [os.getpid()]

    def close(self) -> None:
        if self.server is not None and self.built:
            self.server.terminate()
            self.server.wait()
        self.server = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def embedded_server(job: Job, slots: int) -> Any:
    """The server inside the xllamacpp wheel, in this process."""
    import xllamacpp  # only this way of running needs it

    params = xllamacpp.CommonParams()
    params.model.path = job.paths["gguf"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job.threads
    params.n_parallel, params.n_ctx = slots, slots * CONTEXT_PER_SLOT
    params.n_batch, params.n_ubatch = 2048, 512
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main(LlamaCppAdapter)
