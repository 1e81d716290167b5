"""Choosing among options, by three ways of scoring, and routing a question by the choice."""

import ramify as sgl

QUESTIONS = ["What is 12 times 12?", "Who wrote Hamlet?", "What is the capital of Peru?"]
TOPICS = [" arithmetic", " literature", " geography"]


@sgl.function
def route(s, question, method):
    s += "Question: What is 3 plus 4?\nTopic: arithmetic\n\nQuestion: Where is Rome?\nTopic: geography\n\n"
    s += "Question: Who wrote Faust?\nTopic: literature\n\n"
    s += f"Question: {question}\nTopic:" + sgl.select("topic", TOPICS, choices_method=method)


for method in (
    sgl.token_length_normalized,
    sgl.greedy_token_selection,
    sgl.unconditional_likelihood_normalized,
):
    states = route.run_batch([{"question": question, "method": method} for question in QUESTIONS])
    print(type(method).__name__, [state["topic"].strip() for state in states])
print(sgl.stats(states))
