"""Few-shot classification over a batch: the examples in front are computed once for all rows."""

import ramify as sgl

EXAMPLES = """Say whether the review is positive or negative.

Review: I could not put it down.
Verdict: positive

Review: The plot made no sense and the ending was worse.
Verdict: negative

Review: A warm, funny film for the whole family.
Verdict: positive

"""
REVIEWS = [
    "The best meal I have had in years.",
    "It broke after two days and nobody answered my letters.",
    "I would go again tomorrow.",
    "Slow, loud and far too expensive.",
]


@sgl.function
def classify(s, review):
    s += EXAMPLES
    s += f"Review: {review}\nVerdict:" + sgl.select("verdict", [" positive", " negative"])


states = classify.run_batch([{"review": review} for review in REVIEWS])
for review, state in zip(REVIEWS, states, strict=True):
    print(f"{state['verdict'].strip():9} {review}")
print(sgl.stats(states))
