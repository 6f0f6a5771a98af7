"""The exact, cheaper network and its ONNX graph: deconfounded, folded, rounded, cut."""
