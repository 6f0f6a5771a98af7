"""Drawing on a frame: boxes, labels, bars and lines of text."""
