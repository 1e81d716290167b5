"""A device beside the host, made of a thread: it works in order, and late, so that mistakes in the order show."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from ramify.kernels.draws import Chosen, ChosenTokens, Draws
from ramify.kernels.ops import Forward, Step
from ramify.kernels.torch_compute import TorchCompute


class Late(torch.Tensor):
    """Logits that the device has not made yet: the host that touches them waits, as for any copy from a device.

    Not for a view of them, nor for a `clone`, which is made when the device comes to it: as a copy to pinned memory.
    """

    device_queue: LateCompute

    @classmethod
    def of(cls, logits: torch.Tensor, device: LateCompute) -> Late:
        late = logits.as_subclass(cls)
        late.device_queue = device
        return late

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        late = next(one for one in args if isinstance(one, Late))
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.Tensor.__getitem__ and isinstance(args[1], slice):
                return cls.of(func(*args), late.device_queue)
            if func is torch.Tensor.clone:
                copy, plain = torch.full(late.shape, float("nan")), late.as_subclass(torch.Tensor)
                late.device_queue.tell(lambda: copy.copy_(plain))
                return copy
            if func.__name__ != "__get__":  # an attribute says nothing of the contents
                late.device_queue.wait()
            return func(*args, **(kwargs or {}))


class LateChosen:
    """Draws that are known when the device comes to them."""

    def __init__(self, device: LateCompute) -> None:
        self.done = threading.Event()
        self.chosen: Chosen | None = None
        self.error: Exception | None = None
        self._device = device

    def read(self) -> ChosenTokens:
        self._device.log.append("read")
        assert self.done.wait(60), "the device does not answer"
        if self.error is not None:
            raise self.error
        assert self.chosen is not None
        return self.chosen.read()


class LateCompute(TorchCompute):
    """TorchCompute in fp32 on a thread of its own. Logits are spoiled when the next step runs, as by a real device
    that has one buffer for them. `log` tells the order of launches, choices and reads."""

    def __init__(self, pause: float = 0.001) -> None:
        super().__init__("fp32")
        self.log: list[str] = []
        self.broken: Exception | None = None  # from now on every step fails with it, on the device
        self.most_tokens = self.most_draws = 10**9  # in a step, before there is no memory for more
        self.launched: list[torch.Tensor] = []
        self._told: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._pause = pause
        self._width: int | None = None
        self._logits: torch.Tensor | None = None
        self._failed: Exception | None = None
        threading.Thread(target=self._work, daemon=True, name="late-device").start()

    def _work(self) -> None:
        chooser = random.Random(1)
        while True:
            task = self._told.get()
            time.sleep(chooser.choice([0.0, 0.0, 1.0]) * self._pause)
            task()

    def tell(self, task: Callable[[], object]) -> None:
        """To be done behind all that was told before."""
        self._told.put(task)

    def wait(self) -> None:
        """Until everything is done that was told."""
        done = threading.Event()
        self.tell(done.set)
        assert done.wait(60)

    def compile(self, forward: Forward) -> Callable[[Step], torch.Tensor]:
        run = super().compile(forward)

        def launch(step: Step) -> torch.Tensor:
            self.log.append("launch")
            if len(step.tokens) > self.most_tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            if self._width is None:
                self._width = run(step).shape[1]
            logits = torch.full((len(step.logit_rows), self._width), float("nan"))
            self.launched = [*self.launched[-9:], logits]
            self.tell(lambda: self._forward(run, step, logits))
            return Late.of(logits, self)

        return launch

    def _forward(self, run: Callable[[Step], torch.Tensor], step: Step, logits: torch.Tensor) -> None:
        if self._logits is not None:
            self._logits.fill_(float("nan"))
        self._logits = logits
        self._failed = self.broken
        if self._failed is None:
            logits.copy_(run(step))

    def choose(self, logits: torch.Tensor, draws: Draws) -> Chosen:
        self.log.append("choose")
        if len(draws.rows) > self.most_draws:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        chosen = LateChosen(self)
        with torch._C.DisableTorchFunctionSubclass():
            plain = logits.as_subclass(torch.Tensor)
        self.tell(lambda: self._choose(plain, draws, chosen))
        return chosen

    def _choose(self, logits: torch.Tensor, draws: Draws, chosen: LateChosen) -> None:
        chosen.error = self._failed
        if self._failed is None:
            chosen.chosen = super().choose(logits, draws)
        chosen.done.set()
