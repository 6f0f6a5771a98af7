"""Recordings: the annotated frames as MP4 or WebM files that play at any moment."""
