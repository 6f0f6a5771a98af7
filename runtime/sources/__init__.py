"""Where frames come from: cameras, streams, videos, images, and raw frames from another program."""
