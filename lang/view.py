"""Draws a run for notebooks: its text with what was generated marked, forks side by side, what each gen cost."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .record import NodeRecord, RunRecord, StreamRecord

MOST_BRANCHES = 24  # of one fork that are drawn
MOST_LETTERS = 4_000  # of one node
MOST_DEPTH = 30  # of forks in forks

STYLE = """<style>
.ramify-run{--paper:#fff;--ink:#1f2328;--quiet:#6a737d;--line:#d0d7de;--gen:#ddf4ff;--gen-edge:#54aeff;
--pick:#fff8c5;--pick-edge:#d4a72c;--bad:#cf222e;--card:#f6f8fa;
background:var(--paper);color:var(--ink);border:1px solid var(--line);border-radius:8px;padding:10px 14px;
font:13px/1.5 system-ui,sans-serif;overflow-x:auto}
@media(prefers-color-scheme:dark){.ramify-run{--paper:#0d1117;--ink:#e6edf3;--quiet:#8b949e;--line:#30363d;
--gen:#0c2d4d;--gen-edge:#58a6ff;--pick:#341a00;--pick-edge:#d29922;--bad:#ff7b72;--card:#161b22}}
.ramify-run .head{display:flex;flex-wrap:wrap;gap:4px 14px;margin-bottom:8px;color:var(--quiet)}
.ramify-run .head b{color:var(--ink)}
.ramify-run .said{white-space:pre-wrap;overflow-wrap:anywhere;font:12px/1.5 ui-monospace,Menlo,Consolas,monospace}
.ramify-run mark{color:inherit;background:var(--gen);border-bottom:2px solid var(--gen-edge);border-radius:3px}
.ramify-run mark.select{background:var(--pick);border-color:var(--pick-edge)}
.ramify-run .note{color:var(--quiet);font:11px system-ui,sans-serif;user-select:none;margin:0 5px 0 3px}
.ramify-run .role{display:table;color:var(--quiet);font:600 11px system-ui,sans-serif;border:1px solid var(--line);
border-radius:10px;padding:0 7px;margin:4px 4px 2px 0}
.ramify-run .bad{color:var(--bad)}
.ramify-run .forks{display:flex;gap:8px;margin:6px 0 6px 10px;padding-left:8px;border-left:2px solid var(--line);
overflow-x:auto;align-items:flex-start}
.ramify-run .fork{flex:1 0 220px;max-width:480px;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:6px 9px}
.ramify-run .fork>.title{color:var(--quiet);font-size:11px}
</style>"""


def html_of(run: RunRecord, number: int = 0) -> str:
    """A run, or one stream of it with what forked from it, as a self-contained piece of HTML."""
    children: dict[int, list[StreamRecord]] = {}
    streams = {stream.number: stream for stream in run.streams}
    for stream in run.streams:
        if stream.parent is not None:
            children.setdefault(stream.parent, []).append(stream)
    root = streams.get(number) or run.streams[0]
    body = "".join(_stream(root, children, 0, []))
    error = f'<div class="bad">{_text(run.error)}</div>' if run.error else ""
    return f'<div class="ramify-run">{STYLE}{_head(run)}{error}{body}</div>'


def _head(run: RunRecord) -> str:
    """The program's name and the sums."""
    calls = [node for stream in run.streams for node in stream.nodes if node.kind in ("gen", "select")]
    sums = {
        name: sum(getattr(node.tokens, name) for node in calls)
        for name in ("prompt", "cached", "computed", "completion", "forced", "speculated")
    }
    ends = [node.ended for node in calls if node.ended is not None]
    facts = [f"{len(calls)} call{'s' if len(calls) != 1 else ''} of {_text(run.backend)}"]
    if sums["prompt"]:
        facts.append(f"{sums['prompt']:,} prompt tokens, {sums['cached'] / sums['prompt']:.0%} cached")
    facts.append(f"{sums['completion']:,} generated")
    facts += [f"{sums[name]:,} {name}" for name in ("forced", "speculated") if sums[name]]
    if ends:
        facts.append(f"{max(ends):.2f} s")
    running = sum(node.ended is None and node.error is None for node in calls)
    if running:
        facts.append(f"{running} not finished")
    return (
        f'<div class="head"><b>{_text(run.program)}</b>' + "".join(f"<span>{fact}</span>" for fact in facts) + "</div>"
    )


def _stream(
    stream: StreamRecord, children: dict[int, list[StreamRecord]], depth: int, told: list[str]
) -> Iterator[str]:
    """A stream's nodes in order, its forks where they began. `told`: errors that stand on the page already."""
    forks: dict[int, list[StreamRecord]] = {}
    for child in children.get(stream.number, ()):
        forks.setdefault(child.fork_at, []).append(child)
    open_text = False
    for index in range(len(stream.nodes) + 1):
        if index in forks:
            yield "</div>" if open_text else ""
            open_text = False
            yield from _forks(forks[index], children, depth, told)
        if index < len(stream.nodes):
            yield "" if open_text else '<div class="said">'
            open_text = True
            yield _node(stream.nodes[index], told)
    yield "</div>" if open_text else ""


def _forks(
    forks: list[StreamRecord], children: dict[int, list[StreamRecord]], depth: int, told: list[str]
) -> Iterator[str]:
    yield '<div class="forks">'
    for index, fork in enumerate(forks[:MOST_BRANCHES]):
        state = " · cancelled" if fork.cancelled else " · joined" if fork.joined_as else ""
        yield f'<div class="fork"><div class="title">branch {index + 1} of {len(forks)}{state}</div>'
        if depth < MOST_DEPTH:
            yield from _stream(fork, children, depth + 1, told)
        else:
            yield '<div class="note">…</div>'
        yield "</div>"
    if len(forks) > MOST_BRANCHES:
        yield f'<div class="note">and {len(forks) - MOST_BRANCHES:,} more</div>'
    yield "</div>"


def _node(node: NodeRecord, told: list[str]) -> str:
    if node.error:
        return _failed(node, node.error, told)
    if node.kind == "role":
        return f'<span class="role">{_text(node.name or "")}</span>'
    if node.kind in ("gen", "select"):
        return _generated(node)
    if node.kind == "media":
        return f'<span class="role">{_text(node.name or "media")}</span>'
    if node.kind in ("end role", "scope", "end scope", "set"):
        return ""
    return _text(node.text)


def _failed(node: NodeRecord, error: str, told: list[str]) -> str:
    """Everything after a failure fails with it: the error is told once, then only what was not made."""
    what = _text(node.name or node.kind)
    if any(known in error for known in told):
        model = node.kind in ("gen", "select")
        return f'<span class="bad" title="{_text(error)}">[{what}: not made]</span>' if model else ""
    if len(told) < MOST_BRANCHES:
        told.append(error)
    return f'<span class="bad">[{what}: {_text(error)}]</span>'


def _generated(node: NodeRecord) -> str:
    tokens = node.tokens
    if node.ended is None:
        return f'<mark class="{node.kind}">…</mark><span class="note">{_text(node.name or node.kind)}</span>'
    seconds = f", {node.ended - node.started:.2f} s" if node.started is not None else ""
    title = f"{node.name or node.kind}: prompt {tokens.prompt} (cached {tokens.cached}, computed {tokens.computed}); "
    title += f"wrote {tokens.completion} (forced {tokens.forced}, speculated {tokens.speculated}){seconds}"
    if node.file is not None:
        title += f"; {node.file}:{node.line}"
    note = " ".join(part for part in (node.name or "", str(tokens.completion) if tokens.completion else "") if part)
    return f'<mark class="{node.kind}" title="{_text(title)}">{_text(node.text)}</mark>' + (
        f'<span class="note">{_text(note)}</span>' if note else ""
    )


def _text(text: str) -> str:
    """Any text, safe in HTML: escaped, cut where it is very long, without what is no character."""
    if len(text) > MOST_LETTERS:
        half = MOST_LETTERS // 2
        text = f"{text[:half]} … {len(text) - MOST_LETTERS:,} more characters … {text[-half:]}"
    shown = "".join(
        "�" if "\ud800" <= char <= "\udfff" or (char < " " and char not in "\n\t") else char for char in text
    )
    return escape(shown, quote=True)
