"""Backends that run an exported model: onnxruntime here, TensorRT in `trt`."""
