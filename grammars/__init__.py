"""Regular expressions, JSON schemas and grammars to automata, token masks and forced text; needs no torch."""
