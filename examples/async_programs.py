"""Async programs: many at once in one event loop, and a stream of one."""

import asyncio

import ramify as sgl


@sgl.function
async def opposite(s, word):
    s += "hot -> cold\nbig -> small\n" + f"{word} ->" + sgl.gen("answer", max_tokens=4, stop="\n", temperature=0)
    first = (await s.get("answer")).strip()
    s += f"\n{first} ->" + sgl.gen("back", max_tokens=4, stop="\n", temperature=0)
    return word, first, (await s.get("back")).strip()


@sgl.function
def haiku(s):
    s += "A haiku about rain:\n" + sgl.gen("haiku", max_tokens=32, temperature=0.8, seed=3)


async def main() -> None:
    states = await asyncio.gather(*(opposite.run_async(word) for word in ("happy", "fast", "wet")))
    for state in states:
        print(*state.ret_value, sep=" -> ")
    async for piece in haiku.run(stream=True).text_async_iter("haiku"):
        print(piece, end="", flush=True)
    print()
    print(sgl.stats(states))


asyncio.run(main())
