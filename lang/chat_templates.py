"""Chat formats from a model's own template, which runs in the runtime's sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.text.chat import chat_parts
from ..runtime.text.template_sandbox import BoundedTemplate
from ..runtime.text.tokenizer import Tokenizer
from .chat import ChatFormat, Message, Part, plain_format


def of_tokenizer(tokenizer: Tokenizer) -> ChatFormat:
    """The format of a model's tokenizer: its own template, or the plain one where it has none."""
    if tokenizer.chat_template is None:
        return plain_format()
    return ChatFormat(lambda messages, answer: chat_parts(tokenizer, messages, answer))


def of_template(source: str, *, bos: str = "", eos: str = "", name: str = "chat template") -> ChatFormat:
    """The format of a template alone, for backends that send text: control tokens are written as text.

    Raises BrokenModelFile for what is no template.
    """
    template = BoundedTemplate(source, name)

    def render(messages: Sequence[Message], answer: bool) -> list[Part]:
        given = {"messages": list(messages), "tools": None, "bos_token": bos, "eos_token": eos}
        size = sum(len(str(message["content"])) for message in messages)
        return [template.render({**given, "add_generation_prompt": answer}, characters=size)]

    return ChatFormat(render)
