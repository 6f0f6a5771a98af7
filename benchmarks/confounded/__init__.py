"""The paper's claim on real faces: `python -m benchmarks.confounded`."""
