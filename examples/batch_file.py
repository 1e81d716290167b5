"""A file of questions through one program: results as they finish, one bad row does not stop the others."""

import json
import tempfile
from pathlib import Path

import ramify as sgl

ROWS = [{"animal": animal} for animal in ("cat", "eagle", "salmon", "snail", "horse", "bat")]


@sgl.function
def legs(s, animal):
    if not isinstance(animal, str):
        raise ValueError(f"animal={animal!r} is no name")
    s += f"A spider has 8 legs. A dog has 4 legs. A hen has 2 legs. A {animal} has"
    s += sgl.gen("legs", regex=" [0-9]", max_tokens=3, temperature=0)


with tempfile.TemporaryDirectory() as folder:
    source, target = Path(folder) / "questions.jsonl", Path(folder) / "answers.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in [*ROWS, {"animal": None}]))
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    states = legs.run_batch(rows, progress_bar=True, errors="return")
    with target.open("w") as file:
        for row, state in zip(rows, states, strict=True):
            answer = {"error": str(state.error())} if state.error() else {"legs": int(state["legs"])}
            file.write(json.dumps({**row, **answer}) + "\n")
    print(target.read_text(), end="")
print(sgl.stats(states))
