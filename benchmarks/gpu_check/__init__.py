"""Checks and timings that need an NVIDIA GPU: `python -m benchmarks.gpu_check`."""
