"""Command: watch a camera, stream, video or images and name the expression of every face. The loop is in loop.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from iern.runtime.camera_devices import camera_lines
from iern.runtime.errors import IernError, report
from iern.runtime.options import parse

OPENCV_REMEDY = (
    "either take the build that needs no display libraries (pip uninstall opencv-python; pip install "
    "opencv-python-headless), or install them (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 after one line on stderr (130 after a second Ctrl-C)."""
    options = parse(argv)
    if options.list_cameras:
        print("\n".join(camera_lines()))
        return 0
    try:
        _require_opencv()
        from iern.runtime.loop import run  # late: it needs the OpenCV just tried

        run(options)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


def _require_opencv() -> None:
    """Raise IernError with the remedy where OpenCV is missing, or its wheel misses the system's libraries."""
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        raise IernError(f"OpenCV cannot be imported ({error}); {OPENCV_REMEDY}") from error


if __name__ == "__main__":
    sys.exit(main())
