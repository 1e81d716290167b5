"""Tree of thought: propose, judge, keep the best, go on. Every branch goes on from its parent's KV."""

import ramify as sgl

QUESTION = "A shop sells pens at 3 for 2 dollars. How much do 12 pens cost?"
BRANCHES, DEPTH = 3, 3


@sgl.function
def tree_of_thought(s, question):
    s += sgl.user(f"{question} Think step by step.")
    s += sgl.assistant_begin()
    beam = s
    for depth in range(DEPTH):
        thoughts = beam.fork(BRANCHES)
        for number, thought in enumerate(thoughts):
            thought += f"Step {depth + 1}:" + sgl.gen("thought", max_tokens=24, stop="\n", temperature=0.9, seed=number)
            judge = thought.copy()
            with judge as opinion:
                opinion += "\nIs this step right?" + sgl.select("right", [" yes", " no"])
                thought["score"] = opinion.get_meta_info("right")["normalized_prompt_logprobs"][0]
        beam = max(thoughts, key=lambda thought: thought["score"])
        print(f"depth {depth + 1}: {[round(thought['score'], 2) for thought in thoughts]} {beam['thought'].strip()}")
        beam += "\n"
    beam += "So the answer is" + sgl.gen("answer", regex=r" \$?[0-9]{1,3}( dollars)?", max_tokens=8, temperature=0)
    s["answer"] = beam["answer"]


state = tree_of_thought.run(QUESTION)
print("answer:", state["answer"].strip(), "(8 dollars is right; a model of 135M parameters rarely finds it)")
print(state.stats())
