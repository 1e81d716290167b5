"""docs/request-graph.md shows what the program in it really gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ramify as sgl

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "request-graph.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


@sgl.function
def tips(s: Any, topic: str, count: int = 3) -> None:
    s += f"Here are {count} tips about {topic}, each in a few words:\n" + sgl.gen("plan", max_tokens=60)
    forks = s.fork(count)
    for index, fork in enumerate(forks):
        fork += f"\nNow explain tip {index + 1} to a child, in one sentence:"
        fork += sgl.gen("detail", max_tokens=40, stop="\n")
    forks.join()
    s += "\nIn short: " + "; ".join(s["detail"]) + sgl.gen("summary", max_tokens=30)


def test_the_page_shows_what_comes_out() -> None:
    explained = tips.explain("sailing", backend=sgl.Mock())
    assert str(explained).strip() == block("text").strip()
    assert explained.mermaid().strip() == block("mermaid").strip()


def test_the_page_shows_this_program() -> None:
    shown = [line.strip() for line in block("python").splitlines() if "s +=" in line or "fork += f" in line]
    assert len(shown) == 3 and "Here are {count} tips" in shown[0] and "In short" in shown[2]
