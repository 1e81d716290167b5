"""A graph as a self-contained SVG: streams run down, branches stand side by side, and it reads in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from .graph import Fork, Graph, Item, Join, Position
from .picture import Branch, branches, short, words
from .schedule import Schedule

WIDTH, HEIGHT, LOW, GAP, LANE, MARGIN = 236, 40, 20, 14, 18, 16
LETTERS = 33  # of 11 px monospace that fit into a box
MOST_DEPTH = 12
_QUOTE = {'"': "&quot;"}

STYLE = """
.ramify-graph{--paper:#fff;--ink:#1f2328;--quiet:#6a737d;--line:#afb8c1;--box:#f6f8fa;--gen:#ddf4ff;--gen-edge:#0969da;
--pick:#fff8c5;--pick-edge:#9a6700;--hot:#cf222e}
@media(prefers-color-scheme:dark){.ramify-graph{--paper:#0d1117;--ink:#e6edf3;--quiet:#8b949e;--line:#484f58;--box:#161b22;
--gen:#0c2d4d;--gen-edge:#58a6ff;--pick:#341a00;--pick-edge:#d29922;--hot:#ff7b72}}
.ramify-graph text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:var(--ink)}
.ramify-graph .quiet{fill:var(--quiet)}.ramify-graph .strong{font-weight:700}
.ramify-graph rect.box{fill:var(--box);stroke:var(--line)}.ramify-graph rect.gen{fill:var(--gen);stroke:var(--gen-edge)}
.ramify-graph rect.select{fill:var(--pick);stroke:var(--pick-edge)}
.ramify-graph rect.critical{stroke:var(--hot);stroke-width:2}
.ramify-graph path{fill:none;stroke:var(--line);stroke-width:1.4}
.ramify-graph path.use{stroke:var(--gen-edge);stroke-dasharray:3 3;opacity:.7}
.ramify-graph circle{fill:var(--line)}
"""


@dataclass(slots=True)
class _Drawing:
    graph: Graph
    plan: Schedule
    shapes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    boxes: dict[Position, tuple[float, float]] = field(default_factory=dict)  # centre of the top edge
    ends: dict[int, tuple[float, float]] = field(default_factory=dict)  # where a stream's line comes out below


def svg(graph: Graph, plan: Schedule, summary: Sequence[str] = ()) -> str:
    """The drawing, with `summary` written under it."""
    drawing = _Drawing(graph, plan)
    width = max(_width(graph, 0, 0), max((len(line) * 6.7 for line in summary), default=0.0)) + 2 * MARGIN
    bottom = _stream(drawing, 0, MARGIN, MARGIN + 24, 0)
    _uses(drawing)
    title = f"{graph.program}({', '.join(graph.arguments())})"
    texts = [_text(MARGIN, MARGIN + 10, title, "strong")]
    for number, line in enumerate(summary):
        texts.append(_text(MARGIN, bottom + 26 + 17 * number, line, "quiet"))
    height = bottom + 26 + 17 * len(summary) + MARGIN
    return (
        f'<svg class="ramify-graph" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(_printable(title), _QUOTE)}">'
        f"<style>{STYLE}</style>"
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" style="fill:var(--paper)"/>'
        + "".join((*drawing.lines, *drawing.shapes, *texts))
        + "</svg>"
    )


def _width(graph: Graph, stream: int, depth: int) -> float:
    """How wide a stream with all that forks from it is."""
    widest = float(WIDTH)
    for item in graph.streams[stream].items:
        if isinstance(item, Fork) and depth < MOST_DEPTH:
            widest = max(widest, LANE + _branches_width(graph, branches(graph, item), depth))
    return widest


def _branches_width(graph: Graph, drawn: Sequence[Branch], depth: int) -> float:
    return sum(_width(graph, branch.stream, depth + 1) + GAP for branch in drawn) - GAP


def _stream(drawing: _Drawing, number: int, left: float, top: float, depth: int) -> float:
    """Draw a stream from `top` down; returns where it ends."""
    graph = drawing.graph
    centre = left + WIDTH / 2
    before: tuple[float, float] | None = None
    y = top
    for index, item in enumerate(graph.streams[number].items):
        position = (number, index)
        if isinstance(item, Join):
            for child in item.children:
                if child in drawing.ends:
                    _curve(drawing, drawing.ends[child], (centre, y))
        if before is not None and _height(item):
            _line(drawing, before, (centre, y))
        drawing.boxes[position] = (centre, y)
        if isinstance(item, Fork):
            drawing.shapes.append(f'<circle cx="{centre:.0f}" cy="{y + 5:.0f}" r="5"/>')
            drawing.shapes.append(_text(centre + 12, y + 9, words(item).detail, "quiet"))
            before = (left + LANE / 2 - 4, y + 5)
            drawing.lines.append(
                f'<path d="M{centre:.0f} {y + 5:.0f}H{before[0]:.0f}"/>' if _goes_on(graph, position) else ""
            )
            y = _branches(drawing, item, (centre, y + 5), left + LANE, y + 10 + 2 * GAP, depth) + 2 * GAP
            before = before if _goes_on(graph, position) else None
            continue
        height = _height(item)
        if height:
            _box(drawing, position, item, left, y)
            before = (centre, y + height)
            y += height + GAP
    drawing.ends[number] = before or (centre, y)
    return y


def _height(item: Item) -> int:
    """Roles and scopes are small, and where they end needs no box."""
    return {"end": 0, "role": LOW, "scope": LOW, "media": LOW}.get(words(item).kind, HEIGHT)


def _goes_on(graph: Graph, position: Position) -> bool:
    return position[1] + 1 < len(graph.streams[position[0]].items)


def _branches(drawing: _Drawing, fork: Fork, origin: tuple[float, float], left: float, top: float, depth: int) -> float:
    """Draw the branches of a fork side by side; returns where the longest ends."""
    if depth >= MOST_DEPTH:
        drawing.shapes.append(_text(left, top, "…", "quiet"))
        return top + GAP
    bottom = top
    for branch in branches(drawing.graph, fork):
        if drawing.graph.streams[branch.stream].items:
            _curve(drawing, origin, (left + WIDTH / 2, top))
        end = _stream(drawing, branch.stream, left, top, depth + 1)
        if branch.more:
            drawing.shapes.append(_text(left + WIDTH, end + 2, f"and {branch.more} more like it", "quiet", "end"))
            end += 16
        bottom = max(bottom, end)
        left += _width(drawing.graph, branch.stream, depth + 1) + GAP
    return bottom


def _box(drawing: _Drawing, position: Position, item: Item, left: float, top: float) -> None:
    word = words(item)
    kind = {"gen": " gen", "select": " select"}.get(word.kind, "")
    hot = " critical" if position in drawing.plan.critical and kind else ""
    tokens = drawing.plan.estimates[position].tokens
    count = (f"≤{tokens}" if word.kind == "gen" else str(tokens)) if tokens else ""
    head = " ".join(part for part in (word.kind, word.title) if part)
    drawing.shapes.append(
        f'<g>{_title(word.detail or head)}<rect class="box{kind}{hot}" x="{left:.0f}" y="{top:.0f}" '
        f'width="{WIDTH}" height="{_height(item)}" rx="6"/>'
        + _text(left + 8, top + (16 if _height(item) > LOW else 14), short(head, LETTERS - len(count) - 1), "strong")
        + _text(left + WIDTH - 8, top + 16, count, "quiet", "end")
        + _text(left + 8, top + 31, short(word.detail, LETTERS), "quiet")
        + "</g>"
    )


def _uses(drawing: _Drawing) -> None:
    """Dashed lines from where a variable is made to where it is used, along the boxes' right sides."""
    for edge in drawing.graph.edges():
        if edge.kind != "use" or edge.before not in drawing.boxes or edge.after not in drawing.boxes:
            continue
        (x0, y0), (x1, y1) = drawing.boxes[edge.before], drawing.boxes[edge.after]
        x0, y0, y1 = x0 + WIDTH / 2, y0 + HEIGHT / 2, y1 + HEIGHT / 2
        x1 += WIDTH / 2 if x1 <= x0 - WIDTH / 2 + 1 else -WIDTH / 2
        bend = GAP - 2 if x1 <= x0 else 0
        drawing.lines.append(
            f'<path class="use" d="M{x0:.0f} {y0:.0f}C{x0 + GAP + bend:.0f} {y0:.0f} '
            f'{x1 + (GAP if bend else -GAP):.0f} {y1:.0f} {x1:.0f} {y1:.0f}">{_title(edge.name)}</path>'
        )


def _line(drawing: _Drawing, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x0, y0), (x1, y1) = start, end
    if x0 == x1:
        drawing.lines.append(f'<path d="M{x0:.0f} {y0:.0f}V{y1:.0f}"/>')
    else:  # past the branches, in the lane beside them
        turn = y1 - GAP / 2
        drawing.lines.append(f'<path d="M{x0:.0f} {y0:.0f}V{turn:.0f}H{x1:.0f}V{y1:.0f}"/>')


def _curve(drawing: _Drawing, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x0, y0), (x1, y1) = start, end
    bend = max((y1 - y0) / 2, 8) if y1 - y0 < 80 else 24
    drawing.lines.append(
        f'<path d="M{x0:.0f} {y0:.0f}V{y1 - 2 * bend:.0f}C{x0:.0f} {y1 - bend / 2:.0f} {x1:.0f} {y1 - 1.5 * bend:.0f} '
        f'{x1:.0f} {y1:.0f}"/>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    if not text:
        return ""
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}"{at}>{escape(_printable(text))}</text>'


def _title(text: str) -> str:
    """What is shown when the mouse rests on it."""
    return f"<title>{escape(_printable(short(text, 400)))}</title>"


def _printable(text: str) -> str:
    """Without what XML cannot hold: control characters and lone surrogates."""
    return "".join(char if char.isprintable() else "�" for char in text)
