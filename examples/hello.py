"""The README's program: one prompt, a shared prefix, scored choices, a stream."""

from ramify import Engine

with Engine() as engine:  # the embedded SmolLM2-135M-Instruct
    print(engine.generate("The capital of France is", temperature=0, max_tokens=8).text)

    rules = "Answer with one word.\n\nQ: What color is grass?\nA: green\n\nQ: What color is snow?\nA: white\n\n"
    questions = ["What color is the sky?", "What color is coal?", "What color is a lemon?"]
    answers = engine.generate([f"{rules}Q: {q}\nA:" for q in questions], temperature=0, stop="\n")
    print([answer.text for answer in answers], "cached:", [answer.usage.cached_tokens for answer in answers])

    best = max(engine.score("The opposite of hot is", [" cold", " warm", " wet"]), key=lambda one: one.total)
    print(engine.tokenizer.decode(best.token_ids), round(best.total, 2))

    for delta in engine.stream(engine.encode_chat([{"role": "user", "content": "Say hello."}]), max_tokens=24, seed=1):
        print(delta.text, end="", flush=True)
    print()
