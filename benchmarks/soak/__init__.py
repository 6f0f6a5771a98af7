"""Whether the loop lasts: `python -m benchmarks.soak`."""
