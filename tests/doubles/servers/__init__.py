"""Servers for tests: cameras, a message broker, and a client of the page."""
