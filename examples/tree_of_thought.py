"""Tree of thought on the engine alone: propose, score, keep the best, go on. Every branch reuses its parent's KV."""

from ramify import Engine

QUESTION = "A shop sells pens at 3 for 2 dollars. How much do 12 pens cost?"
WIDTH, DEPTH = 3, 3

with Engine() as engine:
    root = engine.encode_chat([{"role": "user", "content": f"{QUESTION} Think step by step."}])
    beams = [root]
    for depth in range(DEPTH):
        drafts = engine.generate(beams, temperature=0.9, seed=depth, n=WIDTH, max_tokens=32, stop="\n")
        thoughts = [thought for draft in drafts for thought in (draft if isinstance(draft, list) else [draft])]
        states = [[*one.prompt_token_ids, *one.token_ids] for one in thoughts]
        ratings = engine.score(states, [[" Correct"]] * len(states))
        ranked = sorted(zip(ratings, thoughts, states, strict=True), key=lambda item: -item[0][0].total)
        beams = [state for _, _, state in ranked[:2]]
        for rating, thought, _ in ranked[:2]:
            print(f"depth {depth}  {rating[0].total:7.2f}  {' '.join(thought.text.split())[:90]}")
    stats = engine.stats().scheduler
    print(f"{stats.computed_tokens} tokens computed, {stats.cached_tokens} taken from the cache")
