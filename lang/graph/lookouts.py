"""Lines of a body that look at a text which may have a hole in it: `if f"{a} {b}" == "yes"`, `len(prompt)`, `d[key]`.

An f-string of two parts is a plain str, whose characters are markers: Python compares it without asking anybody. So
the source is read: every comparison, condition, loop, lookup and call of a builtin is a look, and before its line runs,
what it looks at is checked. Where there is no source, only the other guards are left (symbols.py, guard.py, trace.py).
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType
from typing import Any

from ..state import ProgramState, ProgramStateGroup
from .symbols import EDGES, is_symbol

_READERS = (
    *("all", "any", "bool", "dict", "enumerate", "float", "hash", "int", "len", "list", "max", "min", "ord"),
    *("reversed", "set", "sorted", "sum", "tuple", "zip"),
)
_METHODS = (
    *("add", "count", "endswith", "find", "get", "index", "pop", "remove", "rfind", "setdefault", "split"),
    *("startswith", "strip"),
)
_DEPTH = 3  # of containers that are looked through

Look = tuple[ast.expr, bool]  # what is looked at, and whether through a container


@lru_cache(maxsize=256)
def looks(filename: str) -> dict[int, list[Look]]:
    """The looks in a file by line; none, where the source cannot be had."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[int, list[Look]] = {}
    for node in ast.walk(tree):
        for look in _looks_of(node):
            found.setdefault(look[0].lineno, []).append(look)
    return found


def sees_a_hole(frame: FrameType) -> bool:
    """Whether the line that a frame is about to run looks at a text with a hole."""
    return any(
        _holds(expression, frame, deep) for expression, deep in looks(frame.f_code.co_filename).get(frame.f_lineno, ())
    )


def _looks_of(node: ast.AST) -> Iterator[Look]:
    match node:
        case ast.Compare(left=left, ops=operators, comparators=others):
            if not all(isinstance(operator, ast.Is | ast.IsNot) for operator in operators):
                yield from ((operand, True) for operand in (left, *others))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            yield test, False
        case ast.BoolOp(values=values):
            yield from ((value, False) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand, False
        case ast.For(iter=iterated) | ast.Starred(value=iterated):
            yield from _iterated(iterated)
        case ast.comprehension(iter=iterated, ifs=conditions):
            yield from _iterated(iterated)
            yield from ((condition, False) for condition in conditions)
        case ast.Subscript(value=value, slice=key):
            yield value, False
            yield key, False
        case ast.Dict(keys=keys):
            yield from ((key, False) for key in keys if key is not None)
        case ast.Set(elts=elements):
            yield from ((element, False) for element in elements)
        case ast.Match(subject=subject):
            yield subject, True
        case ast.FormattedValue(value=value, format_spec=specification) if specification is not None:
            yield value, False
        case ast.BinOp(left=left, op=ast.Mod()):
            yield left, False
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _READERS:
            yield from ((argument, name in ("sorted", "min", "max", "set")) for argument in arguments)
        case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name in _METHODS:
            yield from ((argument, False) for argument in arguments)


def _iterated(expression: ast.expr) -> Iterator[Look]:
    """What a call returns is seldom a text; where it is one, two traces of it differ."""
    if not isinstance(expression, ast.Call):
        yield expression, False


def _holds(expression: ast.expr, frame: FrameType, deep: bool) -> bool:
    """Whether an expression may be a plain text with a hole, or, if `deep`, hold one. Symbols look after themselves."""
    match expression:
        case ast.Constant():
            return False
        case ast.Name(id=name):
            return _has_plain_hole(_value(name, frame), _DEPTH if deep else 0)
        case ast.JoinedStr(values=[ast.FormattedValue(value=only, format_spec=None, conversion=-1)]):
            return _holds(only, frame, False)
        case ast.JoinedStr(values=parts):
            return any(_touches(part, frame) for part in parts)
        case ast.BinOp(op=ast.Mod()):
            return _touches(expression, frame)
        case ast.Call(func=ast.Name(id=name)) if name in ("isinstance", "len", "hasattr", "callable", "range"):
            return False
        case ast.Call():
            return _touches(expression, frame)
        case ast.Attribute(value=base) | ast.Subscript(value=base):
            return _holds(base, frame, True)
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return False  # a bool; what it compares is a look of its own
    return any(_holds(child, frame, deep) for child in ast.iter_child_nodes(expression) if isinstance(child, ast.expr))


def _touches(node: ast.AST, frame: FrameType) -> bool:
    """Whether anything in an expression is a symbol, has a hole, or is what symbols are read from."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            value = _value(inner.id, frame)
            if _has_plain_hole(value, _DEPTH, symbols=True):
                return True
    return False


def _value(name: str, frame: FrameType) -> Any:
    return frame.f_locals.get(name, frame.f_globals.get(name))


def _has_plain_hole(value: Any, depth: int, *, symbols: bool = False) -> bool:
    if is_symbol(value):
        return symbols
    if isinstance(value, ProgramState | ProgramStateGroup):
        return symbols
    if type(value) is str:
        return any(edge in value for edge in EDGES)
    if depth and isinstance(value, list | tuple | set | frozenset):
        return any(_has_plain_hole(one, depth - 1, symbols=symbols) for one in value)
    if depth and isinstance(value, dict):
        inside = (*value, *value.values()) if symbols else tuple(value)  # `in` looks at the keys
        return any(_has_plain_hole(one, depth - 1, symbols=symbols) for one in inside)
    return False
