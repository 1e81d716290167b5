"""A chat of several turns in the model's own format; each turn goes on from the last one's KV."""

import ramify as sgl

QUESTIONS = ["Name a fruit that is red.", "And one that is yellow.", "Which of the two is sweeter?"]


@sgl.function
def chat(s, questions):
    s += sgl.system("You are a helpful assistant. Answer in one short sentence.")
    for number, question in enumerate(questions):
        s += sgl.user(question)
        s += sgl.assistant(sgl.gen(f"answer_{number}", max_tokens=32, temperature=0))


state = chat.run(QUESTIONS)
for message in state.messages():
    print(f"{message['role']:>9}: {message['content']}")
print(state.stats())
