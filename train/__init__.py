"""IERN in PyTorch: the network, Algorithm 1, data, training and evaluation."""
