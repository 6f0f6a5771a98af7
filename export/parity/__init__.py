"""The parity gates: the same faces through the network and through the exported file."""
