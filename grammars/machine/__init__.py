"""Runs a compiled grammar token by token: automata, parser, masks, forced text."""
