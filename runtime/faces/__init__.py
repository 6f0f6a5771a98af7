"""From a frame to its faces over time: detector, search, tracker, smoothing, and the pipeline of these."""
