"""Skeleton of thought: an outline first, then every point at the same time, then one text out of all."""

import ramify as sgl

POINTS = 4


@sgl.function
def skeleton_of_thought(s, topic):
    s += f"How to {topic}, in {POINTS} short points:\n"
    for number in range(POINTS):
        s += f"{number + 1}." + sgl.gen(f"point_{number}", max_tokens=12, stop="\n", temperature=0) + "\n"
    branches = s.fork(POINTS)
    for number, branch in enumerate(branches):
        branch += f"\nMore about point {number + 1}:" + sgl.gen("detail", max_tokens=32, stop="\n", temperature=0)
    branches.join()
    s["text"] = "\n".join(
        f"{number + 1}. {s[f'point_{number}'].strip()}: {s['detail'][number].strip()}" for number in range(POINTS)
    )


state = skeleton_of_thought.run("keep a house plant alive")
print(state["text"])
print(state.stats())
