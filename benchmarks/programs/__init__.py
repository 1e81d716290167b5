"""Benchmarks of programs: what the language costs by itself, and what the request graph saves."""
