"""The text that calibration runs a model on: about a thousand tokens of the kinds of text that people send."""

from __future__ import annotations

CALIBRATION_TEXT = '''\
The ferry left the island a little after six, when the gulls were still asleep on the breakwater and the only \
light came from the bakery behind the church. Marta stood at the rail with her collar up. She had promised \
herself not to look back, and so she counted the buoys instead: red, green, red, green, each one leaning the \
way the tide was going. By the time the harbour had shrunk to a grey line she had reached thirty-one, and the \
captain was pouring coffee into paper cups.

"You'll be wanting the train, then," he said.
"The 8:42. If it runs."
"It runs when it likes. My cousin waited until noon on Tuesday." He handed her a cup. "Sugar?"
"No, thank you. What happened at noon?"
"Nothing. That was the trouble!"

Photosynthesis converts light energy into chemical energy. In the light-dependent reactions, chlorophyll \
absorbs photons and water is split into oxygen, protons and electrons; in the Calvin cycle, carbon dioxide is \
fixed into three-carbon sugars. A leaf that receives 1,000 µmol of photons per square metre and second rarely \
uses more than 5% of that energy.

Question: A shop sells pencils at 3 for $1.20 and notebooks at $2.75 each. How much do 12 pencils and 4 \
notebooks cost?
Answer: 12 pencils are 12 / 3 = 4 groups, which cost 4 * $1.20 = $4.80. The notebooks cost 4 * $2.75 = $11.00. \
Together that is $4.80 + $11.00 = $15.80. The answer is 15.80.

```python
from collections import Counter
import re

def most_common_words(path: str, limit: int = 10) -> list[tuple[str, int]]:
    """Count the words of a file, ignoring case."""
    with open(path, encoding="utf-8") as file:
        words = re.findall(r"[a-z']+", file.read().lower())
    return Counter(words).most_common(limit)

if __name__ == "__main__":
    for word, count in most_common_words("notes.txt"):
        print(f"{word:>12} {count:5d}")
```

{"id": 48213, "name": "Ana Ribeiro", "email": "ana@example.org", "active": true, "balance": -17.35, "tags": \
["admin", "beta"], "address": {"street": "Rua do Sol 14", "city": "Porto", "postcode": "4000-123"}, "orders": \
[{"sku": "A-77", "quantity": 2, "price": 9.99}, {"sku": "B-02", "quantity": 1, "price": 120.0}], "notes": \
null}

| year | rainfall (mm) | mean temperature (°C) |
|------|---------------|-----------------------|
| 2021 | 812.4         | 9.8                   |
| 2022 | 655.0         | 10.9                  |
| 2023 | 901.7         | 10.4                  |

Dear Mr. Okafor,

Thank you for your letter of 14 March. We have looked into the delay and found that the parcel was held at \
customs because the invoice was missing. A copy has been sent today, and delivery should follow within five \
working days. Please accept our apologies for the inconvenience.

Kind regards,
Ellen Voss

SELECT c.name, COUNT(*) AS orders, SUM(o.total) AS revenue FROM customers c JOIN orders o ON o.customer_id = \
c.id WHERE o.created_at >= '2024-01-01' GROUP BY c.name HAVING COUNT(*) > 3 ORDER BY revenue DESC LIMIT 20;

Les enfants jouaient dans la cour pendant que leur grand-mère préparait la soupe. Am Abend saßen alle am Tisch \
und erzählten von der Schule. Mañana iremos al mercado, si no llueve. 春天来了，花开了。 Сегодня хорошая погода.

<p class="lead">Shipping is <b>free</b> for orders over &pound;50.</p>
<ul><li>Returns within 30 days</li><li>24/7 support: +44 20 7946 0018</li></ul>

Theorem. There are infinitely many primes. Proof. Suppose p1, p2, ..., pn were all of them, and let N = p1 * \
p2 * ... * pn + 1. Some prime divides N, but none of the pi does, since each leaves the remainder 1. This is a \
contradiction.

User: Can you give me three tips for sleeping better?
Assistant: Of course. 1. Go to bed and get up at the same time every day, weekends included. 2. Keep the room \
dark, cool and quiet. 3. Avoid caffeine after lunch, and put your phone away an hour before bed.
User: And if I still can't fall asleep?
Assistant: Then get up, do something calm such as reading a few pages, and return to bed when you feel tired.
'''
