"""IERN in PyTorch: the network, Algorithm 1, data, training and evaluation."""

import os

# timm's hub client adds usage data to its downloads unless this is set before it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
