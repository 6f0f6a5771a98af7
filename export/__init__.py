"""Checkpoint -> artifact: the exact, cheaper head with the centres baked in, and the gates that compare outputs."""
