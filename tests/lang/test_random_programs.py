"""Random programs: whoever runs them, however late and from whichever thread answers come, the texts are the same."""

from __future__ import annotations

import gc
import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ramify as sgl
from ramify.errors import BackendError
from ramify.lang.backends.base import GenerateCall, Outcome

from .manual import Manual, ManualStream, eventually


def answer(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:4]


class Late(Manual):
    """Answers from several threads, in an order that nobody knows."""

    def __init__(self, seed: int, failing: float = 0.0) -> None:
        super().__init__()
        self.failing = failing
        self.random = random.Random(seed)
        self.pool = ThreadPoolExecutor(4)
        self.open: set[LateStream] = set()

    def stream(self) -> ManualStream:
        return LateStream(self, "")


class LateStream(ManualStream):
    backend: Late

    def __init__(self, backend: Late, text: str) -> None:
        super().__init__(backend, text)
        backend.open.add(self)

    def close(self) -> None:
        self.backend.open.discard(self)

    def generate(self, call: GenerateCall, done: Any, delta: Any = None) -> Any:
        def end() -> None:
            text = answer(self.text)
            if int(text, 16) < self.backend.failing * 16**4:
                done(Outcome(error=BackendError("broken")))
                return
            for character in text if delta is not None else ():
                delta(character)
            self.text += text
            done(Outcome((text,), ({},)))

        if self.backend.random.random() < 0.3:
            end()
        else:
            delay = self.backend.random.random() * 0.002
            self.backend.pool.submit(lambda: (threading.Event().wait(delay), end()))
        return lambda: None

    def fork(self, count: int) -> list[Any]:
        return [LateStream(self.backend, self.text) for _ in range(count)]

    def warm(self, done: Any) -> Any:
        self.backend.pool.submit(lambda: done(Outcome(("",), ({},))))
        return lambda: None


def grow(s: Any, dice: random.Random, depth: int, seen: list[str]) -> None:
    """Random statements; what is read along the way is noted."""
    for _ in range(dice.randint(1, 6)):
        what = dice.random()
        name = f"v{dice.randint(0, 3)}"
        if what < 0.2:
            s += f"<{dice.randint(0, 99)}>"
        elif what < 0.5:
            s += "a" + sgl.gen(name) + "b"
        elif what < 0.6 and name in s:
            seen.append(str(s[name]))
        elif what < 0.7:
            with s.var_scope(f"scope{dice.randint(0, 1)}"):
                s += sgl.gen(name)
        elif what < 0.75:
            s[name] = dice.randint(0, 9)
        elif depth < 3:
            fork(s, dice, depth, seen)


def fork(s: Any, dice: random.Random, depth: int, seen: list[str]) -> None:
    count = dice.randint(1, 3)
    group = s.fork(count)
    plans = [random.Random(dice.random()) for _ in range(count)]
    for child, plan in zip(group, plans, strict=True):
        grow(child, plan, depth + 1, seen)
    end = dice.random()
    if end < 0.4:
        group.join()
    elif end < 0.7:
        group.join("concate_and_append")
    elif end < 0.9:
        seen.extend(child.text() for child in group)


def outcome(state: Any) -> Any:
    names = sorted(state.stream_executor.variables)
    return state.text(), {name: state[name] for name in names}, state.ret_value


@sgl.function
def program(s, seed):  # type: ignore[no-untyped-def]
    seen: list[str] = []
    grow(s, random.Random(seed), 0, seen)
    return seen


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_texts_do_not_depend_on_when_answers_come(first: int) -> None:
    for seed in range(first, first + 20):
        expected = outcome(program.run(seed, backend=sgl.Mock(lambda prompt, call: answer(prompt))))
        assert outcome(program.run(seed, backend=Late(seed))) == expected
        options = sgl.ExecutionOptions(reuse_handles=False, warm_forks=False)
        assert outcome(program.run(seed, backend=Late(seed), options=options)) == expected
        state = program.run(seed, backend=Late(seed), stream=True)
        streamed = "".join(state.text_iter())
        assert outcome(state) == expected and streamed == expected[0]


def test_texts_do_not_depend_on_the_batch() -> None:
    expected = [outcome(program.run(seed, backend=sgl.Mock(lambda prompt, call: answer(prompt)))) for seed in range(60)]
    assert [outcome(state) for state in program.run_batch([(seed,) for seed in range(60)], backend=Late(1))] == expected


@pytest.mark.parametrize("failing", [0.0, 0.1])
@pytest.mark.parametrize("reuse", [True, False])
def test_every_stream_is_given_back(reuse: bool, failing: float) -> None:
    options = sgl.ExecutionOptions(reuse_handles=reuse)
    for seed in range(8):
        backend = Late(seed, failing)
        try:
            state = program.run(seed, backend=backend, options=options)
            if seed % 2:
                state.sync()
            del state
        except BackendError:
            assert failing
        gc.collect()
        assert eventually(lambda b=backend: not b.open), f"seed {seed}: {len(backend.open)} streams are still held"


def test_an_answer_that_depends_on_the_order_would_be_seen() -> None:
    counter = iter(range(10**6))
    backend = sgl.Mock(lambda prompt, call: str(next(counter)))
    assert outcome(program.run(3, backend=backend)) != outcome(program.run(3, backend=Late(3)))
