"""Command: watch a camera, stream, video or images and name the expression of every face. The loop is in loop.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from iern.runtime.app.command_line import parse
from iern.runtime.errors import IernError, report
from iern.runtime.sources.v4l2 import camera_lines
from iern.runtime.system.opencv import require_opencv


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 after one line on stderr (130 after a second Ctrl-C)."""
    options = parse(argv)
    if options.list_cameras:
        print("\n".join(camera_lines()))
        return 0
    try:
        require_opencv()
        from iern.runtime.app.loop import run  # late: it needs the OpenCV just tried

        run(options)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
