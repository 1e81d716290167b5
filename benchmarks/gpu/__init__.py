"""Benchmarks on one GPU: ceilings, kernels and the engine in a few minutes, against bars and peers in the same run."""
