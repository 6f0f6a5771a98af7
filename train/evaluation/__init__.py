"""How good a model is: predictions, metrics, intervals, calibration and plots."""
