"""Model architectures, each written once in the vocabulary of kernels/ops.py."""
