"""How long one face takes, and several: `python -m benchmarks.latency`."""
