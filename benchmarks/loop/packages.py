"""Program: a package's own loop, by its public interface. It runs in the interpreter that has the package.

    PYTHONPATH=. /path/to/python -m benchmarks.loop.packages fer 640x480 records

Without a size and a file it prints the package's version, or fails if the package is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from benchmarks.loop.stdin_loop import Analyse, answer_frames


def fer_loop() -> Analyse:
    """`FER.detect_emotions`: OpenCV's Haar cascade, and TensorFlow Lite."""
    detect_emotions = importlib.import_module("fer.fer").FER().detect_emotions
    return lambda frame: (len(detect_emotions(frame)), {})


def facex_loop() -> Analyse:
    """`EmotionClassifier.predict`: OpenCV's Haar cascade, and TensorFlow Lite."""
    facex = importlib.import_module("facex")
    predict = facex.EmotionClassifier(str(Path(facex.__file__).parent / "assets" / "model_optimized.tflite")).predict
    return lambda frame: (len(predict(frame)), {})


PACKAGES: dict[str, Callable[[], Analyse]] = {"fer": fer_loop, "facex": facex_loop}
"""Name on PyPI -> what opens its loop."""


def main() -> None:
    """Print a package's version, or answer the frames on stdin until it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop.packages", description=main.__doc__)
    parser.add_argument("name", choices=PACKAGES, help="of the package")
    parser.add_argument("size", nargs="?", help="of a frame, as 640x480; without it the version is printed")
    parser.add_argument("records", nargs="?", help="the file that gets a record of each frame")
    options = parser.parse_args()
    if options.records is None:
        print(importlib.metadata.version(options.name))
    else:
        answer_frames(PACKAGES[options.name](), options.size, options.records)


if __name__ == "__main__":
    main()
