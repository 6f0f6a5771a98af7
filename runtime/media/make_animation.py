"""Command: make an animated picture (WebP) of a recorded video, such as docs/loop.webp.

python runtime/webcam.py --demo --headless --record loop.mp4
python runtime/media/make_animation.py loop.mp4 docs/loop.webp
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import command

import cv2

from iern.runtime.errors import OutputError
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.arguments import Parser, path_with, positive
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import atomic_path


def make_animation(video: Path, target: Path, width: int, every: int, quality: int) -> int:
    """Write every nth frame of the video, `width` pixels wide -> the number of pictures.

    `quality` is 1 to 100. Raises SourceError if the video cannot be read, OutputError if the picture cannot be written.
    """
    animation = cv2.Animation()
    frames, times = [], []
    for frame in open_source(str(video)):
        if frame.index % every == 0:
            height = round(frame.image.shape[0] * width / frame.image.shape[1])
            frames.append(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA))
            times.append(frame.time)
    if len(frames) < 2:
        raise OutputError(f"{video}: {len(frames)} frames are left of it, an animation needs two; use a lower --every")
    durations = [round(1000 * (after - before)) for before, after in itertools.pairwise(times)]
    animation.frames, animation.durations = frames, [*durations, durations[-1]]
    with atomic_path(target) as path:
        if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, quality]):
            raise OutputError(
                f"{target}: this OpenCV cannot write an animated WebP; install opencv-python 4.11 or newer"
            )
    return len(frames)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="recording of the loop")
    parser.add_argument("target", type=path_with((".webp",)), help="picture to write")
    parser.add_argument("--width", type=positive, default=400, help="pixels (default 400)")
    parser.add_argument("--every", type=positive, default=2, help="take every nth frame (default 2)")
    parser.add_argument("--quality", type=positive, default=60, help="1 to 100 (default 60)")
    options = parser.parse_args(argv)
    refuse_conflicts({"the video": options.video}, {"the picture": options.target})
    count = make_animation(options.video, options.target, options.width, options.every, options.quality)
    print(f"wrote {options.target}: {count} pictures, {options.target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
