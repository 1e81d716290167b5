"""One adapter for each engine; only the standard library and what the engine's own environment has is imported."""
