"""The paper's toy experiment on drawn faces: `python -m benchmarks.toy`."""
