"""The same random programs on `ramify` or on `sglang`, in a process of its own; prints what they came to as JSON."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from typing import Any


def answer(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:4]


def library(side: str) -> tuple[Any, Any]:
    """The library, and a backend of it whose answers depend on the prompt alone."""
    if side == "ramify":
        import ramify

        return ramify, ramify.Mock(lambda prompt, call: answer(prompt))
    import sglang
    from sglang.lang.backend.base_backend import BaseBackend

    class Answers(BaseBackend):
        def generate(self, s: Any, sampling_params: Any) -> tuple[str, dict[str, Any]]:
            return answer(s.text_), {}

    return sglang, Answers()


def grow(sgl: Any, s: Any, dice: random.Random, depth: int, seen: list[str]) -> None:
    """Random statements. SGLang knows a variable only when it is there, so both sides wait before they look."""
    for _ in range(dice.randint(1, 6)):
        what, name = dice.random(), f"v{dice.randint(0, 3)}"
        if what < 0.2:
            s += f"<{dice.randint(0, 99)}>"
        elif what < 0.5:
            s += "a" + sgl.gen(name) + "b"
        elif what < 0.6:
            s.sync()
            if name in s:
                seen.append(str(s[name]))
        elif what < 0.7:
            with s.var_scope(f"scope{dice.randint(0, 1)}"):
                s += sgl.gen(name)
        elif what < 0.75:
            s.sync()
            s[name] = dice.randint(0, 9)
        elif depth < 3:
            count = dice.randint(1, 3)
            group = s.fork(count)
            plans = [random.Random(dice.random()) for _ in range(count)]
            for index in range(count):
                grow(sgl, group[index], plans[index], depth + 1, seen)
            end = dice.random()
            if end < 0.7:
                group.join("gather_variable" if end < 0.4 else "concate_and_append")
            elif end < 0.9:
                seen.extend(group[index].text() for index in range(count))


def main() -> None:
    sgl, backend = library(sys.argv[1])

    @sgl.function
    def program(s, seed):  # type: ignore[no-untyped-def]
        seen: list[str] = []
        grow(sgl, s, random.Random(seed), 0, seen)
        return seen

    @sgl.function
    def chat(s, seed):  # type: ignore[no-untyped-def]
        dice = random.Random(seed)
        s += sgl.system(f" system {seed}")
        for _ in range(dice.randint(1, 4)):
            s += sgl.user(f" u{dice.randint(0, 9)}")
            if dice.random() < 0.5:
                with s.assistant():
                    s += "x" + sgl.gen("a")
            else:
                s += sgl.assistant_begin() + sgl.gen("b") + sgl.assistant_end()

    found = []
    for seed in range(int(sys.argv[2])):
        state = program.run(seed, backend=backend)
        state.sync()
        variables = {name: state[name] for name in sorted(state.stream_executor.variables)}
        said = chat.run(seed, backend=backend)
        said.sync()
        # their fallback template writes other marks, so generated texts differ there: compare their lengths
        messages = [
            [m["role"], len(m["content"]) if m["role"] == "assistant" else m["content"]] for m in said.messages()
        ]
        found.append([state.text(), variables, state.ret_value, messages])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
