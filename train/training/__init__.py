"""A training run: its recipe, its epochs, its progress."""
