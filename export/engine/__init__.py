"""From an exported graph to a TensorRT engine."""
