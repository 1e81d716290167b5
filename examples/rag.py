"""Answers from local text: find the passages that share most rare words with a question, and ask over them."""

import math
import re
from collections import Counter

import ramify as sgl

PASSAGES = [
    "The library opens at nine on weekdays and at ten on Saturdays. It is closed on Sundays.",
    "A library card is free for residents. Visitors pay five euros for a month.",
    "Books may be kept for three weeks and renewed twice. Films must come back after one week.",
    "The reading room on the second floor is quiet. Groups may book the room on the first floor.",
    "Printing costs ten cents a page in black and thirty cents in colour.",
]
QUESTIONS = ["When does the library open on Saturdays?", "How long may books be kept?", "What does a colour page cost?"]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


RARITY = {w: math.log(len(PASSAGES) / n) for w, n in Counter(w for p in PASSAGES for w in set(words(p))).items()}


def retrieve(question: str, count: int = 2) -> list[str]:
    """The passages with the most weight of shared words."""
    weight = {p: sum(RARITY.get(w, 0) for w in set(words(question)) & set(words(p))) for p in PASSAGES}
    return sorted(PASSAGES, key=lambda passage: -weight[passage])[:count]


@sgl.function
def answer(s, question):
    s += "Answer from the text.\n\nText: The shop sells bread and milk.\nQuestion: What does the shop sell?\n"
    s += "Answer: bread and milk\n\n"
    s += f"Text: {' '.join(retrieve(question))}\nQuestion: {question}\n"
    s += "Answer:" + sgl.gen("answer", max_tokens=24, stop="\n", temperature=0)


states = answer.run_batch([{"question": question} for question in QUESTIONS])
for question, state in zip(QUESTIONS, states, strict=True):
    print(f"{question}\n   {state['answer'].strip()}")
print(sgl.stats(states))
