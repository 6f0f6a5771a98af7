"""Where frames come from: cameras, streams, videos, images and raw frames of another program."""
