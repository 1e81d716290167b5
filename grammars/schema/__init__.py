"""JSON Schema to grammar programs."""
