"""The README's program: two answers that share a prompt, a choice, and an object that obeys its type."""

from dataclasses import dataclass

import ramify as sgl


@dataclass
class City:
    name: str
    country: str
    population: int


@sgl.function
def hello(s, country):
    s += f"The capital of {country} is" + sgl.gen("capital", max_tokens=8, stop=[".", ",", "\n"], temperature=0)
    s += ". It is a city in" + sgl.select("continent", [" Asia", " Europe", " Africa"])
    s += ".\nAs JSON: " + sgl.gen("city", type=City, max_tokens=60, temperature=0)


for state in hello.run_batch([{"country": "France"}, {"country": "Japan"}]):
    print(state["capital"], state["continent"], state["city"])
    print(state.stats())
