"""Parts a model's thoughts from what it says: `<think>...</think>answer`."""

from __future__ import annotations

from ..errors import InvalidRequest

MARKS = {"kimi": ("◁think▷", "◁/think▷")}
DEFAULT_MARKS = ("<think>", "</think>")
KINDS = ("deepseek-r1", "deepseek-v3", "glm45", "gpt-oss", "kimi", "kimi_k2", "qwen3", "qwen3-thinking", "step3")
THINKS_UNASKED = ("deepseek-r1", "qwen3-thinking", "step3")  # the prompt ends with the opening mark already


def checked_kind(kind: str | None) -> str:
    """The kind of model, checked. Raises InvalidRequest for one that is not known."""
    if kind is None:
        return "deepseek-r1"
    if not isinstance(kind, str) or kind.lower() not in KINDS:
        raise InvalidRequest(f"separate_reasoning: model_type={kind!r} is not known; known are {', '.join(KINDS)}")
    return kind.lower()


def parted(text: str, kind: str) -> tuple[str, str]:
    """(thoughts, the rest). A text that stops while it thinks is all thoughts."""
    start, end = MARKS.get(kind, DEFAULT_MARKS)
    before, opened, behind = text.partition(start)
    inside = behind if opened and not before.strip() else text
    if inside is text and kind not in THINKS_UNASKED:
        return "", text
    thoughts, closed, rest = inside.partition(end)
    if not closed and not (opened and not before.strip()) and kind not in THINKS_UNASKED:
        return "", text
    return thoughts.strip(), rest.lstrip("\n") if closed else ""
