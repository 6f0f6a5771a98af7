"""Faces drawn by this program, so that training and tests need no download."""
