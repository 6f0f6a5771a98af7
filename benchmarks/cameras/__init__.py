"""How many cameras a machine carries, and what joint batches are worth: `python -m benchmarks.cameras`."""
