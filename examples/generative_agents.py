"""Generative agents: a small town whose people remember, plan and talk; each one's memory is a prefix that grows."""

import ramify as sgl

PEOPLE = {
    "Ada": "Ada is a baker. She gets up at four and loves gossip.",
    "Ben": "Ben is a retired sailor. He tells long stories and feeds the gulls.",
    "Cleo": "Cleo is a doctor. She is always in a hurry and never late.",
}
PLACES = [" the bakery", " the harbour", " the market"]


@sgl.function
def live(s, person, memory, hour):
    s += f"{memory}\nIt is {hour} o'clock. {person} goes to" + sgl.select("place", PLACES)
    s += (
        f'. There {person} thinks: "'
        + sgl.gen("thought", max_tokens=20, stop=['"', "\n"], temperature=0.8, seed=hour)
        + '"'
    )


memories = dict(PEOPLE)
everything = []
for hour in (9, 12, 15):
    rows = [{"person": person, "memory": memories[person], "hour": hour} for person in PEOPLE]
    for (person, _), state in zip(PEOPLE.items(), live.run_batch(rows), strict=True):
        memories[person] = state.text()
        everything.append(state)
        print(f"{hour:>2}:00 {person:5} in {state['place'].strip():12} {state['thought'].strip()}")
print(sgl.stats(everything))
