"""What was said, as the messages of OpenAI's chat API: texts, images, and the answer that is under way."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ...errors import BackendError
from ..nodes import Media
from .transcript import Transcript

MAX_IMAGE = 20 << 20  # bytes
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def conversation(said: Transcript) -> tuple[list[dict[str, Any]], str]:
    """The messages before the answer, and what is already there of the answer."""
    messages = said.messages()
    started = ""
    if messages and messages[-1]["role"] == "assistant" and said.role == "assistant":
        content = messages.pop()["content"]
        if not isinstance(content, str):
            raise BackendError("an assistant's answer cannot begin with an image")
        started = content
    for message in messages:
        if not isinstance(message["content"], str):
            message["content"] = [_part(part) for part in message["content"]]
    return messages, started


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": image_url(part.source)}}


def image_url(source: Any) -> str:
    """An address of the image: its own, or its bytes as a data URL. Raises BackendError for what is no image."""
    if isinstance(source, str) and source.startswith(("http://", "https://", "data:")):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file() or path.stat().st_size > MAX_IMAGE:
            raise BackendError(f"image {str(source)[:200]!r} is no file of at most {MAX_IMAGE >> 20} MiB")
        source = path.read_bytes()
    if not isinstance(source, bytes | bytearray):
        raise BackendError(f"an image is a path, an address or bytes; got {type(source).__name__}")
    kind = next((kind for start, kind in _KINDS.items() if bytes(source[: len(start)]) == start), None)
    if kind is None:
        raise BackendError("the image is neither PNG, JPEG, GIF nor WebP")
    return f"data:image/{kind};base64,{base64.b64encode(source).decode()}"
