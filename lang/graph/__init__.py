"""The request graph: tracing, passes over it, and its explanation."""
