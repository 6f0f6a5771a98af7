"""Doubles of the CUDA driver and of TensorRT, and the kernels compiled for the CPU."""
