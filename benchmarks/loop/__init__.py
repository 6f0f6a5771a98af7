"""The whole loop, stage by stage, with its rivals in the same run: `python -m benchmarks.loop`."""
