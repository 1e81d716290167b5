"""The README's program: rows that share a prompt, a choice, and an object that obeys its type while it is written."""

from dataclasses import dataclass

import ramify as sgl


@dataclass
class City:
    name: str
    country: str
    by_the_sea: bool


@sgl.function
def capital(s, country):
    s += 'Peru: its capital is Lima, in America. {"name": "Lima", "country": "Peru", "by_the_sea": true}\n'
    s += f"{country}: its capital is" + sgl.gen("city", max_tokens=8, stop=[",", "."])
    s += ", in" + sgl.select("continent", [" Africa", " America", " Asia", " Europe"])
    s += ". " + sgl.gen("object", type=City, max_tokens=48)


rows = [{"country": country} for country in ("France", "Japan", "Kenya")]
for state in capital.run_batch(rows, temperature=0):
    print(state["city"], state["continent"], state["object"], state.stats())
