"""The cheaper, exact network and its ONNX graph: deconfounding, folding, rounding, cutting."""
