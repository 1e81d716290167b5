"""How a select reads the answers of OpenAI-compatible APIs: an option by its text, or scores by an echoed prompt."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import BackendError
from ..sampling import Constraint, Sampling
from .base import GenerateCall, OptionScore, Outcome
from .http import HttpError
from .mock_text import token_id
from .openai_messages import conversation
from .openai_wire import choice_schema
from .transcript import Transcript

Ask = Callable[[list[dict[str, Any]], GenerateCall], Awaitable[Outcome]]  # messages, how to answer them

Row = list[tuple[str, float, int]]  # tokens: text, log-probability, place of the first character in the whole text


async def chosen_by_answer(ask: Ask, said: Transcript, options: tuple[str, ...]) -> Outcome:
    """Where nothing is scored: the model is held to answer one of the options; where that is refused, asked to."""
    options = tuple(dict.fromkeys(options))
    greedy = Sampling(temperature=0.0, max_new_tokens=16 + max(map(len, options)))
    messages, started = conversation(said)
    if started.strip():
        messages.append({"role": "user", "content": f"Complete this with one of the options: {started.strip()}"})
    wanted = Constraint("json_schema", choice_schema([option.strip() for option in options]))
    try:
        outcome = await ask(messages, GenerateCall(greedy, wanted))
        return matched(replace(outcome, texts=(chosen(outcome.texts[0]),)), options)
    except HttpError as error:
        if error.status not in (400, 422):
            raise
    lines = "\n".join(option.strip() for option in options)
    asked = {"role": "user", "content": f"Answer with exactly one of these lines and nothing else:\n{lines}"}
    return matched(await ask([*messages, asked], GenerateCall(greedy)), options)


def matched(outcome: Outcome, options: tuple[str, ...]) -> Outcome:
    """The option that an answer means. Raises BackendError where it means none."""
    index = best_option(outcome.texts[0], options)
    if index is None:
        raise BackendError(f"select: the answer {outcome.texts[0][:80]!r} is none of the options")
    return Outcome(texts=(options[index],), metas=outcome.metas)


def best_option(answer: str, options: Sequence[str]) -> int | None:
    """Which option a free answer means: the longest one that it begins with, else the only one that it mentions."""
    said = answer.strip().strip("\"'`*.").casefold()
    plain = [option.strip().casefold() for option in options]
    begun = [index for index, option in enumerate(plain) if option and said.startswith(option)]
    if begun:
        return max(begun, key=lambda index: len(plain[index]))
    mentioned = [index for index, option in enumerate(plain) if option and option in said]
    longest = [
        index
        for index in mentioned
        if not any(plain[index] in plain[other] and len(plain[other]) > len(plain[index]) for other in mentioned)
    ]
    return longest[0] if len(longest) == 1 else None


def echoed_row(text: str, meta: Mapping[str, Any]) -> Row:
    """The tokens of a text that was echoed; the first of all has no log-probability, which counts as 0.

    Tokens before the text (a beginning-of-text token) and behind it (what was generated) are left out.
    """
    entries = meta.get("output_token_logprobs", ())
    before = "".join(token for _, _, token in entries).find(text)
    row: Row = []
    place = -before
    for logprob, _, token in entries:
        if 0 <= place < len(text):
            row.append((token, 0.0 if logprob is None else float(logprob), place))
        place += len(token)
    if before < 0 or not row:
        raise BackendError(
            "OpenAI: this server does not echo a prompt with log-probabilities, so it cannot score options; "
            "with is_chat_model=True select asks the model instead"
        )
    return row


def option_score(row: Row, alone: tuple[float, ...]) -> OptionScore:
    """A row as an option's score. The API tells no token ids: their texts stand for them."""
    return OptionScore(tuple(token_id(token) for token, _, _ in row), tuple(logprob for _, logprob, _ in row), alone)


def chosen(text: str) -> str:
    """What `{"choice": ...}` says, or the text itself."""
    try:
        return str(json.loads(text)["choice"])
    except (ValueError, KeyError, TypeError):
        return text


def first_touched(row: Row, end: int) -> int:
    """The place of the first token that reaches beyond `end`."""
    return next(place for token, _, place in row if place + len(token) > end)


def aligned(alone: Row, row: Row) -> tuple[float, ...]:
    """The last tokens' scores, one for each in `row`; those that an option alone does not have count as 0."""
    values = [logprob for _, logprob, _ in alone][-len(row) :]
    return tuple([0.0] * (len(row) - len(values)) + values)
