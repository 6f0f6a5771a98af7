"""Command: the library alone, in a process of its own. For each line of seconds on stdin it prints what it managed.

It decodes the same pictures as the service, and recognises them one after another.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import command

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import decode_image
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.system.opencv import limit_opencv


@command
def main(argv: Sequence[str] | None = None) -> None:
    """`FOLDER DETECT_SIZE PRECISION`: the pictures, and the service's options of these names."""
    if "--help" in sys.argv[1:]:
        print(f"usage: python -m benchmarks.service.bare ...\n{main.__doc__}")
        return
    folder, detect_size, precision = sys.argv[1:] if argv is None else argv
    limit_opencv()
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    detector = FaceDetector(longest_side=int(detect_size))
    with ExpressionRecognizer(detector=detector, precision=precision) as recognizer:
        for picture in pictures:
            recognizer(decode_image(picture))
        print("ready", flush=True)
        following = itertools.cycle(pictures)
        for line in sys.stdin:
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < float(line):
                recognizer(decode_image(next(following)))
                count += 1
            print(count, time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    sys.exit(main())
