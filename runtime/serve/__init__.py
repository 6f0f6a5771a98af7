"""The loop on a page: live picture, answers over time, and the controls of a machine without a display."""
