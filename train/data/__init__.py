"""Faces on disk as training samples: manifest, data set, sampler, loader, augmentation and capture conditions."""
