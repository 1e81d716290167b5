"""The language: what a user imports, the request graph, its compiler, and its execution on a backend."""
