"""Random programs: trees of everything the language can say, and a body that does what a tree says."""

from __future__ import annotations

from typing import Any

import ramify.lang.api as sgl
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
ARGUMENTS = ("question", "topic")

constants = st.sampled_from(
    ["", "Q: ", "\n", "So, the answer in a few words is: ", "é{}", "A long beginning of a text. " * 3]
)
sources = st.one_of(
    constants.map(lambda text: ("constant", text)),
    st.sampled_from(ARGUMENTS).map(lambda name: ("argument", name)),
    st.sampled_from(NAMES).map(lambda name: ("variable", name)),
)
ways = st.sampled_from(["format", "add", "join", "percent", "dot format", "upper", "repr", "first", "bare"])
texts = st.tuples(st.just("text"), ways, st.lists(sources, min_size=1, max_size=3))
gens = st.tuples(st.just("gen"), st.sampled_from((*NAMES, None)), st.integers(1, 6), st.sampled_from([None, " ", "\n"]))
many = st.tuples(st.just("many"), st.sampled_from(NAMES), st.integers(2, 3))
selects = st.tuples(st.just("select"), st.sampled_from(NAMES), st.sampled_from([("yes", "no"), ("x", "xy", "y")]))
settings = st.tuples(st.just("set"), st.sampled_from(NAMES), sources)
looks = st.tuples(st.just("look"), st.sampled_from(NAMES))
argument_looks = st.tuples(st.just("look at argument"), st.sampled_from(ARGUMENTS))
leaves = st.one_of(texts, texts, gens, gens, gens, many, selects, settings)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(inner, max_size=3)
    return st.one_of(
        st.tuples(st.just("role"), st.sampled_from(["user", "assistant"]), block),
        st.tuples(st.just("scope"), st.sampled_from(NAMES), block),
        st.tuples(st.just("call"), block),
        st.tuples(st.just("copy"), block),
        st.tuples(
            st.just("fork"),
            st.integers(1, 3),
            block,
            st.sampled_from(["gather_variable", "concate_and_append", "read", "nothing"]),
        ),
    )


whole_programs = st.lists(st.recursive(leaves, nested, max_leaves=12), max_size=6)
any_programs = st.lists(st.recursive(st.one_of(leaves, looks, argument_looks), nested, max_leaves=12), max_size=6)


def program_of(tree: list[Any]) -> sgl.SglFunction:
    """The program that a tree describes."""

    @sgl.function
    def generated(s: Any, question: str, topic: str = "cats") -> Any:
        run_block(s, tree, {"question": question, "topic": topic}, in_role=False)
        return [s[name] for name in NAMES if name in s], s

    return generated


def run_block(s: Any, block: list[Any], arguments: dict[str, str], *, in_role: bool) -> None:
    for step in block:
        run_step(s, step, arguments, in_role)


def run_step(s: Any, step: Any, arguments: dict[str, str], in_role: bool) -> None:
    match step:
        case ("text", way, parts):
            s += text_of(way, [value_of(s, part, arguments) for part in parts])
        case ("gen", name, count, stop):
            s += sgl.gen(name, max_tokens=count, stop=stop)
        case ("many", name, count):
            s += sgl.gen(name, max_tokens=2, n=count)
        case ("select", name, options):
            s += sgl.select(name, choices=list(options))
        case ("set", name, part):
            s[name] = value_of(s, part, arguments)
        case ("look", name):
            if name in s and len(f"{s[name]}") % 2:
                s += "odd"
        case ("look at argument", name):
            if len(arguments[name]) % 2:
                s += "odd"
        case ("role", name, block):
            if in_role:
                run_block(s, block, arguments, in_role=True)
            else:
                with getattr(s, name)():
                    run_block(s, block, arguments, in_role=True)
        case ("scope", name, block):
            inner = [one for one in block if one[0] != "scope"]
            with s.var_scope(name):
                run_block(s, without_reads(inner), arguments, in_role=in_role)
        case ("call", block):

            @sgl.function
            def inside(state: Any, given: dict[str, str]) -> None:
                run_block(state, block, given, in_role=in_role)

            inside(s, arguments)
        case ("copy", block):
            with s.copy() as copied:
                run_block(copied, block, arguments, in_role=in_role)
        case ("fork", count, block, end):
            forks = s.fork(count)
            for index, one in enumerate(forks):
                one += f"Branch, with a beginning that all branches share, number {index}: "
                run_block(one, block, arguments, in_role=in_role)
            if end == "read":
                for one in forks:
                    s += text_of("format", [one[name] for name in NAMES if name in one])
            elif end != "nothing":
                forks.join(end)


def value_of(s: Any, part: Any, arguments: dict[str, str]) -> Any:
    match part:
        case ("constant", text):
            return text
        case ("argument", name):
            return arguments[name]
        case ("variable", name):
            return s[name] if name in s else f"(no {name})"  # noqa: SIM401 - its get() waits


def text_of(way: str, values: list[Any]) -> str:
    """The values as one text, put together in one of the ways that people do it."""
    formatted = [f"{value}" for value in values]
    match way:
        case "add":
            return "<" + formatted[0] + ">"
        case "join":
            return ", ".join(formatted)
        case "percent":
            return "%s and %s" % (formatted[0], formatted[-1])  # noqa: UP031 - people write it so
        case "dot format":
            return "{} then {last!s:>12}".format(*formatted, last=values[-1] if isinstance(values[-1], str) else "x")
        case "upper":
            return values[0].strip().upper() + "." if isinstance(values[0], str) else formatted[0]
        case "repr":
            return f"{values[0]!r}|{formatted[-1]!r:.30}"
        case "first":
            return f"{values[0][0]}" if isinstance(values[0], list) else formatted[0]
        case "bare":
            return formatted[0]
    return "".join(f"{value};" for value in values)


def without_reads(block: list[Any]) -> list[Any]:
    """A block in which no text reads a variable, which may be the one that is being made."""
    return [
        ("text", "bare", [("constant", "text ")]) if one[0] in ("text", "set") else one
        for one in block
        if one[0] in ("text", "gen", "select", "set")
    ]
