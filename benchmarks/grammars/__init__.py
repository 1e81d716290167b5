"""Grammars against their peers: what compiles, what is right, how fast masks come, in one run."""
