r"""Regular expressions to byte-level expressions: `lower(parse(pattern))`.

parse(pattern, dialect="python" | "ecma", flags=0)   the tree, over characters
searched(tree)                                       the texts in which it matches somewhere
lower(tree, encoding="utf8" | "json")                the whole texts it matches, as bytes
universe(encoding)                                   every text
"""

from __future__ import annotations

from .encoding import Encoding, universe
from .lowering import lower, words
from .parser import Dialect, parse
from .tree import Node, searched

__all__ = ["Dialect", "Encoding", "Node", "lower", "parse", "searched", "universe", "words"]
