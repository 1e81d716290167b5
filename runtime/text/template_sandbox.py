"""Runs a model's chat template, which is input from a file, so that it can neither reach out nor run away.

On top of Jinja's immutable sandbox: a deadline that holds inside endless loops, a cap on the size of every value it
makes (checked before multiplying, padding or replacing could allocate it), and only filters that such templates use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from types import FrameType
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...errors import BrokenModelFile, InvalidRequest

SECONDS = 2.0
BASE_CHARACTERS = 1 << 20  # beside what the messages themselves need
_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int"),
    *("items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace"),
    *("reverse", "round", "safe", "select", "selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper"),
)
_STRING_METHODS = (
    *("capitalize", "count", "endswith", "find", "index", "isalpha", "isdigit", "isspace", "join", "lower", "lstrip"),
    *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rsplit", "rstrip", "split", "splitlines"),
    *("startswith", "strip", "title", "upper"),
)


class TemplateRefusal(Exception):
    """The template called raise_exception: it does not take these messages."""


class BoundedTemplate:
    """One compiled template. Raises BrokenModelFile where it cannot be compiled. Safe from many threads."""

    def __init__(self, source: str, name: str) -> None:
        self._name = name
        if len(source) > BASE_CHARACTERS:
            raise BrokenModelFile(f"{name}: a chat template of {len(source)} characters is no chat template")
        try:
            self._code = _Environment(BASE_CHARACTERS).compile(source)
        except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise BrokenModelFile(f"{name}: its chat template is not usable: {str(error)[:200]}") from None

    def render(self, variables: Mapping[str, Any], *, characters: int = 0, seconds: float = SECONDS) -> str:
        """The text; `characters` is the size of the variables, which the room given grows with.

        Raises InvalidRequest where the template refuses the messages, BrokenModelFile where it fails.
        """
        limit = BASE_CHARACTERS + 4 * characters
        environment = _Environment(limit)
        template = Template.from_code(environment, self._code, environment.make_globals(None))
        try:
            with _deadline(seconds):
                pieces, size = [], 0
                for piece in template.generate(**variables):
                    size += len(piece)
                    if size > limit:
                        raise _TooMuch(f"wrote more than {limit} characters")
                    pieces.append(piece)
                return "".join(pieces)
        except TemplateRefusal as error:
            raise InvalidRequest(f"messages: the model's chat template refuses them: {str(error)[:300]}") from None
        except (RecursionError, MemoryError):
            raise BrokenModelFile(f"{self._name}: its chat template recurses without end") from None
        except (_TooMuch, SecurityError) as error:
            raise BrokenModelFile(f"{self._name}: its chat template is out of bounds: {str(error)[:200]}") from None
        except (TemplateError, ArithmeticError, LookupError, AttributeError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"messages: the model's chat template cannot render them: {str(error)[:200]}"
            ) from None


class _TooMuch(Exception):
    """The template used up its time or its room."""


class _CheckedConcatenation(CodeGenerator):
    """`a ~ b` is the one operator that Jinja's sandbox does not offer to check."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 (named by Jinja)
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _GenerationBlock(Extension):
    """{% generation %}...{% endgeneration %} marks answers for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own interface)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "%", "**"))
    code_generator_class = _CheckedConcatenation

    def __init__(self, limit: int) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, _GenerationBlock])
        self.limit = limit  # characters in one value
        self.room = 64 * limit  # characters in all values made, since a list can hold on to them
        self.filters = {name: FILTERS[name] for name in _FILTERS}
        self.filters |= {"tojson": self._to_json, "indent": self._indent}
        self.filters |= {"replace": self._replace, "join": self._filtered_join(FILTERS["join"])}
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def concatenated(self, parts: tuple[Any, ...]) -> str:
        return str(self.bounded("".join(map(str, parts))))

    def bounded(self, value: Any) -> Any:
        """The value itself, unless it, or all of them together, are too large."""
        if isinstance(value, str | bytes | list | tuple):
            self.room -= len(value)
            if len(value) > self.limit or self.room < 0:
                raise _TooMuch(f"made values of more than {self.limit} parts")
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            return self.bounded(left + right)
        if operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("formatting text with % is not allowed in a chat template")
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" and not (numbers and abs(left) <= 1e6 and abs(right) <= 16):
            raise SecurityError("such a power is not allowed in a chat template")
        if operator == "*" and not numbers:
            sizes = [len(side) if hasattr(side, "__len__") else int(side) for side in (left, right)]
            if sizes[0] * sizes[1] > self.limit:
                raise _TooMuch("multiplied text or a list beyond bounds")
        return self.bounded(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str | bytes) and attr not in _STRING_METHODS:
            return False
        return bool(super().is_safe_attribute(obj, attr, value))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (Jinja's way)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "replace" and len(args) >= 2:
            __self._check_replace(owner, str(args[0]), str(args[1]))
        if isinstance(owner, str) and name == "join" and args:
            args = (__self._check_join(owner, args[0]),)
        return __self.bounded(super().call(__context, __obj, *args, **kwargs))

    def _check_replace(self, text: str, old: str, new: str) -> None:
        if len(text) + text.count(old) * len(new) > self.limit:
            raise _TooMuch("replaced text beyond bounds")

    def _check_join(self, separator: str, values: Any) -> list[Any]:
        listed = list(values)
        if len(separator) * len(listed) + sum(len(value) for value in listed if isinstance(value, str)) > self.limit:
            raise _TooMuch("joined text beyond bounds")
        return listed

    def _replace(self, text: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = str(text), str(old), str(new)
        self._check_replace(text, old, new)
        replaced: str = text.replace(old, new, -1 if count is None else count)
        return replaced

    def _filtered_join(self, join: Callable[..., Any]) -> Callable[..., Any]:
        def checked(eval_ctx: Any, value: Any, d: str = "", attribute: Any = None) -> Any:
            return join(eval_ctx, self._check_join(str(d), value), d, attribute)

        checked.jinja_pass_arg = join.jinja_pass_arg  # type: ignore[attr-defined]  # Jinja's mark: wants its context
        return checked

    def _indent(self, text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        space = " " * min(width, 64) if isinstance(width, int) else width[:64]
        lines = str(text).split("\n")
        self._check_join(space, lines)
        indented = [space + line if line or blank else line for line in lines[1:]]
        return "\n".join([space + lines[0] if first else lines[0], *indented])

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        indent = min(indent, 16) if isinstance(indent, int) else None
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        return str(self.bounded(text))


def _raise_exception(message: object) -> None:
    raise TemplateRefusal(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(str(pattern)[:64])


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise _TooMuch at the next line of Python, in this thread, once the time is over.

    A template is compiled to Python, so a trace function sees every turn of its loops. It costs a template some
    tens of microseconds, and unlike a signal or a killed thread it works anywhere and leaves nothing behind.
    """
    end = perf_counter() + seconds

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if perf_counter() > end:
            raise _TooMuch(f"ran for more than {seconds:g} s")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
