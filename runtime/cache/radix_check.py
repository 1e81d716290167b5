"""Verifies a radix tree in full: every page in one place, every lock, mark and key right."""

from __future__ import annotations

from collections.abc import Mapping

from .radix import Node, RadixTree
from .reuse import chained


def check_tree(tree: RadixTree, held: Mapping[Node, int]) -> list[int]:
    """Raise AssertionError unless the tree is sound, given how often each node is held; returns its pages."""
    pages: list[int] = []
    active = 0
    queued = {node for _, _, node in tree._heap}
    unseen = dict(held)
    for node in tree.nodes():
        pages += node.pages
        wanted = unseen.pop(node, 0) + sum(1 for child in node.children.values() if child.active)
        if node.active != wanted:
            raise AssertionError(f"a node is active {node.active} times, but should be {wanted} times")
        active += len(node.pages) if node.active else 0
        _check_node(tree, node, queued)
    if unseen:
        raise AssertionError("somebody holds a node that is not in the tree")
    if (len(pages), active) != (tree.pages, tree.active_pages):
        raise AssertionError(f"{len(pages)} pages, {active} active; counted {tree.pages}, {tree.active_pages}")
    return pages


def _check_node(tree: RadixTree, node: Node, queued: set[Node]) -> None:
    if len(node.tokens) != len(node.pages) * tree.page_size or not node.alive:
        raise AssertionError("a node's tokens and pages disagree, or it is marked as removed")
    before = node.parent.keys if node.parent is not None and node.parent.keys else [hash(node.namespace)]
    if node.keys != chained(before[-1], node.tokens, tree.page_size):
        raise AssertionError("a page's key is not that of its prefix")
    if any(mark.node is not node for mark in node.marks):
        raise AssertionError("a mark does not know its node")
    for key, child in node.children.items():
        if child.parent is not node or child.start != node.end or child.namespace != node.namespace:
            raise AssertionError("a child does not fit its parent")
        if key != child.first or key != tuple(child.tokens[: tree.page_size]):
            raise AssertionError("a child is filed under the wrong key")
    if node.parent is None:
        if tree._roots.get(node.namespace) is not node or not (node.children or node.active):
            raise AssertionError("a root is lost or left over")
    elif not node.pages:
        raise AssertionError("a node is empty")
    elif not node.children and not node.active and node not in queued:
        raise AssertionError("a leaf that nobody holds cannot be found by eviction")
