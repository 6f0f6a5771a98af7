"""Command: find the faces in a camera, stream, video or images, and predict their expressions. See app/loop.py."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from iern.runtime.system.command import command, leave

from iern.runtime.app.command_line import parse
from iern.runtime.app.source_options import print_cameras
from iern.runtime.system.opencv import require_opencv


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. A second Ctrl-C ends it at once, with status 130."""
    options = parse(argv)
    if options.list_cameras:
        print_cameras()
        return
    require_opencv()
    from iern.runtime.app.loop import run  # late: it imports the OpenCV that was just checked

    with contextlib.redirect_stdout(sys.stderr) if options.writes_to_stdout else contextlib.nullcontext():
        run(options)


if __name__ == "__main__":
    leave(main())
