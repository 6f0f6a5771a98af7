"""What runs an exported model: onnxruntime here, TensorRT in `trt`."""
