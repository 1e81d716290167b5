"""Self-consistency: several independent lines of reasoning over one prompt, and a vote."""

from collections import Counter

import ramify as sgl

QUESTION = "Tom has 3 apples and buys 4 more. How many apples does he have?"


@sgl.function
def reason(s, question, samples):
    s += f"Question: {question}\nReasoning:"
    branches = s.fork(samples)
    for number, branch in enumerate(branches):
        branch += sgl.gen("reasoning", max_tokens=32, stop="\n", temperature=0.8, seed=number)
        branch += "\nThe number is " + sgl.gen("answer", type=int, max_tokens=4, temperature=0)
    branches.join()
    s["votes"] = Counter(s["answer"])


state = reason.run(QUESTION, 8)
for answer, votes in state["votes"].most_common():
    print(f"{answer:>6}  {'#' * votes}")
print(state.stats())
