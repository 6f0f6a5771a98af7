"""The command line of the webcam loop. Imports no OpenCV, so that --help works where OpenCV does not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.bundled import MODEL
from iern.runtime.faces.smoothing import HALF_LIFE
from iern.runtime.outputs.broker import Broker, parse_broker
from iern.runtime.serve.address import Address, parse_address
from iern.runtime.sources.settings import LiveTimeouts, RawFormat, SourceSettings, parse_raw_format, parse_size
from iern.runtime.system.arguments import Parser, dated_path, fourcc, number, path_with, positive, token, value_of

RECORDINGS = (".mp4", ".avi", ".webm")
STILLS = (".png", ".jpg", ".jpeg")

EXAMPLES = """\
examples:
  webcam.py                                    camera 0 in a window; h shows its keys, q leaves
  webcam.py --source 1                         the second camera (Linux: also /dev/video2)
  webcam.py --source clip.mp4 --headless --record out.webm
                                               annotate a video on a machine without a display
  webcam.py --source rtsp://user:password@camera/stream --jsonl answers.jsonl
                                               a network camera, its answers as data
  webcam.py --source 0 --size 1280x720 --fps 30 --codec MJPG
                                               what the camera shall send; what it really sends is said
  ffmpeg -i film.ts -f rawvideo -pix_fmt bgr24 -s 640x480 - | webcam.py --source - --stdin-format 640x480:bgr24
                                               frames from another program
  webcam.py --source photo.jpg --headless --still annotated.png
  webcam.py --source photos/ --headless        one line of answers an image
  webcam.py --headless --jsonl answers-%Y%m%d-%H%M%S.jsonl
                                               a file of its own for each start
  webcam.py --provider cuda --strict           the GPU, or an error instead of the CPU
  webcam.py --headless --serve 8080            live on http://127.0.0.1:8080/, on this machine alone
  webcam.py --headless --serve 0.0.0.0:8080    for the network, at the address printed with its token
  webcam.py --model office.fp16.engine --rebuild
                                               a TensorRT engine, built again where it does not fit

Files and folders give every frame. Cameras and streams give the latest frame only: what the loop
cannot keep up with is dropped and counted, and the picture never lags behind. A camera or stream that is
lost, silent, black or frozen is opened anew, again and again, until --give-up; one that is absent at the
start is an error.

In the names of files that are written, %Y, %m, %d, %H, %M and %S become the time of the start: a file that is there is
replaced.

JSON lines: one object a frame with "schema", "start" (wall clock), "frame", "time" (seconds), "name",
"segment", "faces" and "latency_ms". A face has "track" (a number that it keeps, or null), "box"
[x, y, width, height] in pixels, "score" (the detector's),
"expression", "probability", "probabilities" by expression, "uncertain", and "disagreement": how far
the answers under the single contexts (strata) lie from their mean, 0 to 1; high means context decides.

A face is "uncertain", and called so instead of by an expression, where its probability is below the
threshold in the model's file; its likeliest expression still stands in the JSON lines. A model without
a threshold names every face: train/calibrate.py finds one.

Exit status: 0 at the end of the source, on q, Esc, Ctrl-C or SIGTERM (recordings are finished);
1 with one line on stderr where something cannot be opened, read or written, also where the loop went
on without it until its end; 2 for wrong usage.

python -m iern.runtime.doctor.__main__ says what is installed, what this will use, and how to mend what is broken.
"""


@dataclass(frozen=True)
class Options:
    """What the user asked for; paths are None where nothing is to be written."""

    source: str = "0"
    model: Path = MODEL
    provider: str = "auto"
    strict: bool = False
    rebuild: bool = False
    headless: bool = False
    record: Path | None = None
    still: Path | None = None
    jsonl: Path | None = None
    csv: Path | None = None
    mqtt: Broker | None = None
    summary: Path | None = None
    blur_faces: bool = False
    max_frames: int | None = None
    half_life: float = HALF_LIFE
    detect_every: int = 1
    demo: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    codec: str | None = None
    stdin_format: RawFormat | None = None
    frozen_after: float = LiveTimeouts.same
    give_up: float = LiveTimeouts.give_up
    list_cameras: bool = False
    serve: Address | None = None
    token: str | None = None
    allow_source: tuple[str, ...] = ()

    @property
    def source_settings(self) -> SourceSettings:
        """What is asked of the source besides its name."""
        patience = LiveTimeouts(same=self.frozen_after or float("inf"), give_up=self.give_up)
        return SourceSettings(self.size, self.fps, self.codec, self.stdin_format, patience)


def parse(argv: Sequence[str] | None = None) -> Options:
    """Arguments (default: the process's own) -> options. Leaves with status 2 and a usage line where they are wrong."""
    parser = Parser(
        prog="webcam.py",
        description="Find the faces of every frame and name their expressions, live.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--source",
        default="0",
        metavar="S",
        help="camera number, /dev/video*, csi://0 (Jetson), video file, image, folder of images, RTSP/HTTP URL, or - "
        "for raw frames from stdin (default: camera 0)",
    )
    add("--list-cameras", action="store_true", help="show the cameras of this machine with their formats, and leave")
    add("--size", type=value_of(parse_size), metavar="WxH", help="picture size to ask of a camera, as 1280x720")
    add("--fps", type=value_of(number), metavar="N", help="frames a second to ask of a camera, or those of stdin")
    add("--codec", type=value_of(fourcc), metavar="C", help="codec to ask of a camera, as MJPG or YUYV")
    add(
        "--stdin-format",
        type=value_of(parse_raw_format),
        metavar="WxH:P",
        help="what --source - reads, as 640x480:bgr24; P is bgr24, rgb24, bgra or gray",
    )
    add(
        "--frozen-after",
        type=value_of(number),
        default=LiveTimeouts.same,
        metavar="S",
        help="open a live source anew after S seconds of black or exactly equal frames, then after 2 S, 4 S, ... where "
        "that does not help; 0 never (default: %(default)g)",
    )
    add(
        "--give-up",
        type=value_of(number),
        default=LiveTimeouts.give_up,
        metavar="S",
        help="end with an error where a live source is lost for S seconds; 0 at its first loss (default: never)",
    )
    add(
        "--model", type=Path, default=MODEL, metavar="FILE", help="exported .onnx or .engine (default: the bundled one)"
    )
    add(
        "--provider",
        choices=("auto", "cpu", "cuda", "tensorrt"),
        default="auto",
        help="where the model runs; auto takes CUDA where onnxruntime has it (default); tensorrt builds engines at "
        "the first start, for minutes, and keeps them",
    )
    add("--strict", action="store_true", help="fail where the provider asked for is not there, instead of falling back")
    add(
        "--rebuild",
        action="store_true",
        help="build an .engine that does not fit this machine again, from the .onnx beside it, which takes minutes",
    )
    add("--headless", action="store_true", help="open no window; for machines without a display")
    add(
        "--record",
        type=path_with(RECORDINGS),
        metavar="FILE",
        help="write the annotated video: .mp4 (Motion JPEG), .avi (the same, at a fixed rate) or .webm (VP8, plays in "
        "browsers); it can be played at any moment, also after a crash",
    )
    add(
        "--still",
        type=path_with(STILLS),
        metavar="FILE",
        help="write the annotated frame with the most faces (the last such) as .png or .jpg",
    )
    add("--jsonl", type=dated_path, metavar="FILE", help="write one JSON record a frame, see below")
    add("--csv", type=dated_path, metavar="FILE", help="write one row a face as CSV; docs/records.md names the columns")
    add(
        "--mqtt",
        type=value_of(parse_broker),
        metavar="URL",
        help="publish the JSON records: mqtt://[user:password@]host[:port]/topic; needs pip install 'iern[mqtt]'",
    )
    add(
        "--summary",
        type=path_with((".html", ".htm")),
        metavar="FILE",
        help="write a page about the session at its end: time per expression and face, timeline, latency",
    )
    add("--blur-faces", action="store_true", help="make faces unrecognisable in all pictures: window, page, files")
    add("--max-frames", type=positive, metavar="N", help="stop after N frames")
    add(
        "--half-life",
        type=value_of(number),
        default=HALF_LIFE,
        metavar="S",
        help=f"answers are smoothed over each face's track, and count half after S seconds (default: {HALF_LIFE:g}); "
        "0: each frame by itself",
    )
    add(
        "--detect-every",
        type=positive,
        default=1,
        metavar="N",
        help="look for faces in every Nth frame and follow them between, which is faster (default: 1)",
    )
    add(
        "--serve",
        type=value_of(parse_address),
        metavar="[HOST:]PORT",
        help="show the loop on a page: for this machine alone, or where HOST is one that others reach, with a token",
    )
    add(
        "--token",
        type=token,
        default=os.environ.get("IERN_TOKEN") or None,
        help="what the page asks for (default: $IERN_TOKEN; without either one is made up and printed where it is "
        "needed)",
    )
    add(
        "--allow-source",
        action="append",
        default=[],
        metavar="S",
        help="another source that may be chosen on the page; repeat it for several",
    )
    add(
        "--demo",
        action="store_true",
        help="show it: the source, or the bundled clip where it does not open; a window, or without a display "
        "demo_output/annotated.webm and demo_output/still.png",
    )
    arguments = vars(parser.parse_args(argv))
    options = Options(**arguments | {"allow_source": tuple(arguments["allow_source"])})
    if options.allow_source and not options.serve:
        parser.error("--allow-source is for the page: give --serve too")
    if options.rebuild and options.model.suffix.lower() != ".engine":
        parser.error(f"--rebuild is for a --model that ends in .engine, found {options.model}")
    return options
