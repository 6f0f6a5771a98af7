"""The folder from which a Triton server runs an exported model."""
