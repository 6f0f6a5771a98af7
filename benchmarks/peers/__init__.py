"""Other people's installable models on the same labelled pictures: `python -m benchmarks.peers`."""
