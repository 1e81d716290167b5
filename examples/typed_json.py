"""JSON that obeys a pydantic model while it is written; what the schema dictates costs no decoding step."""

from typing import Annotated, Literal

import pydantic
import ramify as sgl


class Character(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=24)
    house: Literal["Gryffindor", "Hufflepuff", "Ravenclaw", "Slytherin"]
    age: int = pydantic.Field(ge=1, le=150)
    alive: bool
    friends: list[Annotated[str, pydantic.Field(max_length=24)]] = pydantic.Field(max_length=3)


@sgl.function
def describe(s, name):
    s += f"{name} is a character in Harry Potter. As JSON:\n"
    s += sgl.gen("character", type=Character, max_tokens=160, temperature=0)


for name in ("Hermione Granger", "Draco Malfoy"):
    state = describe.run(name)
    character = state["character"]
    assert isinstance(character, Character)
    print(character)
    print(state.stats())
print("(The form is guaranteed. That the facts are right is up to the model, and this one has 135M parameters.)")
