"""The GPU kernels, in Triton: each beside a plain torch twin of its name, and the floor its timing is held to."""
