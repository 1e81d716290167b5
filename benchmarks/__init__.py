"""Benchmarks of ramify against its peers: `python -m benchmarks`, or `make bench`."""
