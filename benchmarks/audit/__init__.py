"""The same faces under changed light, colour, focus and pose: `python -m benchmarks.audit`."""
