"""Data sets as their authors distribute them, each read into the rows of a manifest."""
