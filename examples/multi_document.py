"""A question over several documents: each is read by a branch of its own, then all readings are joined as text."""

import ramify as sgl

DOCUMENTS = [
    "The bridge was finished in 1932 after eight years of work. It carries eight lanes of traffic and two railways.",
    "In 1998 climbing tours over the arch began. Four million people have taken one since.",
    "Painting the bridge never ends: when the crew has reached one side, the other one needs paint again.",
]
QUESTION = "What do we learn about the bridge?"


@sgl.function
def ask(s, documents, question):
    s += "Notes from several documents.\n"
    branches = s.fork(len(documents))
    for number, (document, branch) in enumerate(zip(documents, branches, strict=True)):
        branch += f"Document {number + 1}: {document}\nNote:"
        branch += sgl.gen("note", max_tokens=24, stop="\n", temperature=0) + "\n"
    branches.join("concate_and_append")
    s += f"Question: {question}\nAnswer:" + sgl.gen("answer", max_tokens=40, stop="\n", temperature=0)


state = ask.run(DOCUMENTS, QUESTION)
print(state.text())
print(state.stats())
