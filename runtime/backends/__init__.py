"""Backends that run an exported model: onnxruntime and Triton here, TensorRT in `trt`."""
