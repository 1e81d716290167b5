"""A ReAct agent: the model calls real functions, with arguments of their types, until it gives an answer."""

import ramify as sgl

POPULATION = {"France": 68_000_000, "Spain": 48_000_000, "Portugal": 10_600_000}


def population(country: str) -> int:
    """The number of people in a country."""
    return POPULATION[country]


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@sgl.function
def agent(s, question):
    s += f"Answer the question by calling tools, one at a time.\n\n{sgl.describe_tools([population, add])}\n\n"
    s += 'Question: How many people live in Spain?\nCall: {"name": "population", "arguments": {"country": "Spain"}}\n'
    s += 'Result: 48000000\nCall: {"name": "final_answer", "arguments": {"answer": 48000000}}\n\n'
    s += f"Question: {question}\n"
    sgl.use_tools(s, [population, add], answer=int, name="answer", rounds=4, temperature=0)


state = agent.run("How many people live in France?")
print(state.text().rpartition("Question: ")[2])
print("answer:", state["answer"])
print(state.stats())
