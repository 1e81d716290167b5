"""Text as it is generated: the whole stream, then one variable of it."""

import ramify as sgl


@sgl.function
def story(s, hero):
    s += f"Once upon a time, {hero} found a" + sgl.gen("find", max_tokens=24, stop=".", temperature=0.7, seed=1)
    s += ".\nIn the end," + sgl.gen("end", max_tokens=24, stop=".", temperature=0.7, seed=2) + "."


for piece in story.run("a small dragon", stream=True).text_iter():
    print(piece, end="", flush=True)
print()

state = story.run("a tired clown", stream=True)
print("[the end alone]", "".join(state.text_iter("end")).strip())
print(state.stats())
