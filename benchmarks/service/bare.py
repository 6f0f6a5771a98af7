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

from iern.runtime.backends.model_options import PRECISIONS
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import decode_image
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.opencv import limit_opencv


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = Parser(prog="python -m benchmarks.service.bare", description="The library alone, timed for its benchmark.")
    parser.add_argument("folder", type=Path, help="the pictures")
    parser.add_argument("detect_size", type=positive, help="the service's --detect-size")
    parser.add_argument("precision", choices=PRECISIONS, help="the service's --precision")
    options = parser.parse_args(argv)
    limit_opencv()
    pictures = [path.read_bytes() for path in sorted(options.folder.iterdir())]
    detector = FaceDetector(longest_side=options.detect_size)
    with ExpressionRecognizer(detector=detector, precision=options.precision) as recognizer:
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
