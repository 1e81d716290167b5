"""The tokens of a vocabulary as one tree over their bytes, in flat arrays, level after level."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]


class TokenTrie:
    """Node 0 is the root; the nodes of a level are numbered together, the children of a node too.

    Node n was reached by `byte[n]` from `parent[n]`; its children are `child[n]` up to `child[n + 1]`; the tokens that
    end there are `ids[token[n] : token[n + 1]]`. Level d is `levels[d]` up to `levels[d + 1]`.
    """

    def __init__(self, tokens: tuple[bytes | None, ...]) -> None:
        spelled = sorted((token, index) for index, token in enumerate(tokens) if token)
        self.ids: Int32 = np.array([index for _, index in spelled], np.int32)
        data = np.frombuffer(b"".join(token for token, _ in spelled), np.uint8)
        lengths = np.array([len(token) for token, _ in spelled], np.int64)
        starts = np.cumsum(lengths) - lengths
        home = np.zeros(len(spelled), np.int64)  # the node that a token has reached
        parents, bytes_, levels = [np.zeros(1, np.int64)], [np.zeros(1, np.uint8)], [0, 1]
        for depth in range(int(lengths.max(initial=0))):
            going = np.flatnonzero(lengths > depth)
            step = data[starts[going] + depth]
            node = home[going]
            fresh = np.ones(len(going), bool)
            fresh[1:] = (node[1:] != node[:-1]) | (step[1:] != step[:-1])
            home[going] = levels[-1] - 1 + np.cumsum(fresh)
            parents.append(node[fresh])
            bytes_.append(step[fresh])
            levels.append(levels[-1] + int(fresh.sum()))
        self.levels = levels
        self.byte = np.concatenate(bytes_)
        self.parent = np.concatenate(parents).astype(np.int32)
        nodes = np.arange(len(self.byte) + 1)
        self.child = (1 + np.searchsorted(self.parent[1:], nodes)).astype(np.int32)
        order = np.argsort(home, kind="stable")
        self.ids = self.ids[order]
        self.token = np.searchsorted(home[order], nodes).astype(np.int32)
        self.longest = int(lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.byte)

    @cached_property
    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """byte, child, token, ids as Python lists, which are quicker to walk one by one."""
        return self.byte.tolist(), self.child.tolist(), self.token.tolist(), self.ids.tolist()

    def spelling(self, node: int) -> bytes:
        """The bytes from the root to a node."""
        found = bytearray()
        while node:
            found.append(self.byte[node])
            node = int(self.parent[node])
        return bytes(reversed(found))
