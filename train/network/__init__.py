"""The network of IERN: its parts, its configuration, its checkpoint and first weights."""
