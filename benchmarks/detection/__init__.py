"""What it costs to look for faces only where they are, and what is missed: `python -m benchmarks.detection`."""
