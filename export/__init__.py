"""Checkpoint to artifact: the centres baked in, the exact cheaper head, and the gate that proves it the same."""
