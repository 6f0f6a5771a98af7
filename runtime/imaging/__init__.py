"""Images and faces as arrays: the image reader, the `Detection` type, and the crop for the network."""
