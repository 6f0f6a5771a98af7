"""The webcam application: its command line, its loop, and what connects sources, analysis and outputs."""
