"""The loop on a web page: the live picture, the expressions over time, and controls for a machine without a display."""
