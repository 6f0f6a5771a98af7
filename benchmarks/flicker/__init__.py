"""How often labels change on still faces, and how late they follow: `python -m benchmarks.flicker`."""
