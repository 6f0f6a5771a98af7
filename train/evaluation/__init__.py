"""How good a model is: predictions, metrics, intervals, calibration, probes and plots."""
