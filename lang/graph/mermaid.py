"""A graph in Mermaid's language, which many pages and editors draw."""

from __future__ import annotations

from .graph import Fork, Graph, Item, Position, is_model_work
from .picture import branch_words, branches, short, words
from .schedule import Schedule

_SHAPES = {"gen": ("([", "])"), "select": ("{{", "}}"), "fork": ("((", "))"), "join": ("((", "))")}


def mermaid(graph: Graph, plan: Schedule) -> str:
    """A flowchart: streams run down, dotted arrows are uses of variables, thick boxes the critical path."""
    lines = ["flowchart TD"]
    drawn: set[Position] = set()
    _stream(graph, 0, lines, drawn, "  ")
    for edge in graph.edges():
        if edge.before in drawn and edge.after in drawn:
            arrow = f"-. {_escaped(edge.name)} .->" if edge.kind == "use" else "-->"
            lines.append(f"  {_name(edge.before)} {arrow} {_name(edge.after)}")
    critical = [
        _name(position) for position in plan.critical if position in drawn and is_model_work(graph.item(position))
    ]
    if critical:
        lines += ["  classDef critical stroke-width:3px", f"  class {','.join(critical)} critical"]
    if graph.stop is not None:
        last = next((p for p in reversed(graph.order) if p in drawn), None)
        lines.append(f'  stop["{_escaped("grows at run time: " + graph.stop.reason)}"]')
        if last is not None:
            lines.append(f"  {_name(last)} -.-> stop")
    return "\n".join(lines) + "\n"


def _stream(graph: Graph, number: int, lines: list[str], drawn: set[Position], margin: str) -> None:
    for index, item in enumerate(graph.streams[number].items):
        position = (number, index)
        drawn.add(position)
        opening, closing = _SHAPES.get(words(item).kind, ("[", "]"))
        lines.append(f'{margin}{_name(position)}{opening}"{_escaped(_label(item))}"{closing}')
        if not isinstance(item, Fork) or len(margin) > 80:
            continue
        for branch in branches(graph, item):
            lines.append(f'{margin}subgraph s{branch.stream}["{branch_words(graph, branch)}"]')
            _stream(graph, branch.stream, lines, drawn, margin + "  ")
            lines.append(f"{margin}end")


def _label(item: Item) -> str:
    word = words(item)
    return " ".join(part for part in (word.kind, word.title, short(word.detail, 40)) if part)


def _name(position: Position) -> str:
    return f"n{position[0]}_{position[1]}"


def _escaped(text: str) -> str:
    """Text for a quoted label: everything that Mermaid or HTML could read as its own is a character code."""
    return "".join(char if char.isalnum() or char in " .,:…-_()" else f"#{ord(char)};" for char in text)
