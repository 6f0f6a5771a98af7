"""From a frame to its faces over time: detector, optical flow, tracker, smoothing, and the pipeline of these."""
