"""An LLM judge: one essay, several criteria judged at the same time over one prefix, one verdict from all."""

from typing import Literal

import ramify as sgl

ESSAY = """The city should plant more trees. Trees cool the streets in summer, they clean the air, and people who live
near them are healthier. They cost little compared with roads. Some say that leaves block the drains in autumn, but
sweeping them up is work for a week, and the shade lasts all summer."""
CRITERIA = ["clarity", "evidence", "originality", "structure"]


@sgl.function
def judge(s, essay):
    s += f"An essay:\n{essay}\n\n"
    branches = s.fork(len(CRITERIA))
    for criterion, branch in zip(CRITERIA, branches, strict=True):
        branch += f"Its {criterion}, in one sentence:" + sgl.gen(
            "opinion", max_tokens=24, stop=["\n", "."], temperature=0
        )
        branch += f".\nMark for {criterion}, from 1 to 5: " + sgl.gen("mark", type=Literal[1, 2, 3, 4, 5])
    branches.join()
    s["average"] = sum(s["mark"]) / len(s["mark"])


state = judge.run(ESSAY, temperature=0)
for criterion, mark, opinion in zip(CRITERIA, state["mark"], state["opinion"], strict=True):
    print(f"{criterion:12} {mark}  {opinion.strip()}")
print("average:", state["average"])
print(state.stats())
