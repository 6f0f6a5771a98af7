"""Everything that needs an NVIDIA GPU: `python -m benchmarks.gpu_check`."""
