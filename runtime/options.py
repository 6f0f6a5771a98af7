"""The command line of the webcam loop. Imports no OpenCV, so that --help works where OpenCV does not."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from iern.runtime.broker import Broker, parse_broker
from iern.runtime.serve.address import Address, parse_address
from iern.runtime.source_settings import Patience, RawFormat, SourceSettings, parse_raw_format, parse_size

T = TypeVar("T")

HERE = Path(__file__).parent
MODEL = HERE / "models" / "iern_edge.onnx"
DEMO_CLIP = HERE / "media" / "demo.mp4"

HALF_LIFE = 0.15
"""Seconds after which an answer to a face counts half; see benchmarks/results/flicker.md."""

RECORDINGS = (".mp4", ".avi", ".webm")
STILLS = (".png", ".jpg", ".jpeg")
SHORTEST_TOKEN = 8

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
  webcam.py --provider cuda --strict           the GPU, or an error instead of the CPU
  webcam.py --headless --serve 8080            live on http://127.0.0.1:8080/, on this machine alone
  webcam.py --headless --serve 0.0.0.0:8080    for the network, at the address printed with its token
  webcam.py --model office.fp16.engine --rebuild
                                               a TensorRT engine, built again where it does not fit

Files and folders give every frame. Cameras and streams give the latest frame only: what the loop
cannot keep up with is dropped and counted, and the picture never lags behind. A camera or stream that is
lost, silent, black or frozen is opened anew, again and again, until --give-up; one that is absent at the
start is an error.

JSON lines: one object a frame with "schema", "start" (wall clock), "frame", "time" (seconds), "name",
"segment", "faces" and "latency_ms". A face has "track" (a number that it keeps, or null), "box"
[x, y, width, height] in pixels, "score" (the detector's),
"expression", "probability", "probabilities" by expression, "uncertain", and "disagreement": how far
the answers under the single contexts (strata) lie from their mean, 0 to 1; high means context decides.

A face is "uncertain", and called so instead of by an expression, where its probability is below the
threshold in the model's file; its likeliest expression still stands in the JSON lines. A model without
a threshold names every face: train/calibrate.py finds one.

Exit status: 0 at the end of the source, on q, Esc, Ctrl-C or SIGTERM (recordings are finished);
1 with one line on stderr where something cannot be opened, read or written; 2 for wrong usage.

python -m iern.runtime.doctor says what is installed, what this will use, and how to mend what is broken.
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
    frozen_after: float = Patience.same
    give_up: float = Patience.give_up
    list_cameras: bool = False
    serve: Address | None = None
    token: str | None = None
    allow_source: tuple[str, ...] = ()

    @property
    def source_settings(self) -> SourceSettings:
        """What is asked of the source besides its name."""
        patience = Patience(same=self.frozen_after or float("inf"), give_up=self.give_up)
        return SourceSettings(self.size, self.fps, self.codec, self.stdin_format, patience)


def parse(argv: Sequence[str] | None = None) -> Options:
    """Arguments (default: the process's own) -> options. Leaves with status 2 and a usage line where they are wrong."""
    parser = argparse.ArgumentParser(
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
    add("--size", type=_value(parse_size), metavar="WxH", help="picture size to ask of a camera, as 1280x720")
    add("--fps", type=_value(_number), metavar="N", help="frames a second to ask of a camera, or those of stdin")
    add("--codec", type=_value(_fourcc), metavar="C", help="codec to ask of a camera, as MJPG or YUYV")
    add(
        "--stdin-format",
        type=_value(parse_raw_format),
        metavar="WxH:P",
        help="what --source - reads, as 640x480:bgr24; P is bgr24, rgb24, bgra or gray",
    )
    add(
        "--frozen-after",
        type=_value(_number),
        default=Patience.same,
        metavar="S",
        help="open a live source anew after S seconds of black or exactly equal frames, then after 2 S, 4 S, ... where "
        "that does not help; 0 never (default: %(default)g)",
    )
    add(
        "--give-up",
        type=_value(_number),
        default=Patience.give_up,
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
        type=_path_with(RECORDINGS),
        metavar="FILE",
        help="write the annotated video: .mp4 (Motion JPEG), .avi (the same, at a fixed rate) or .webm (VP8, plays in "
        "browsers); it can be played at any moment, also after a crash",
    )
    add(
        "--still",
        type=_path_with(STILLS),
        metavar="FILE",
        help="write the annotated frame with the most faces (the last such) as .png or .jpg",
    )
    add("--jsonl", type=Path, metavar="FILE", help="write one JSON record a frame, see below")
    add("--csv", type=Path, metavar="FILE", help="write one row a face as CSV; docs/records.md names the columns")
    add(
        "--mqtt",
        type=_broker,
        metavar="URL",
        help="publish the JSON records: mqtt://[user:password@]host[:port]/topic; needs pip install 'iern[mqtt]'",
    )
    add(
        "--summary",
        type=_path_with((".html", ".htm")),
        metavar="FILE",
        help="write a page about the session at its end: time per expression and face, timeline, latency",
    )
    add("--blur-faces", action="store_true", help="make faces unrecognisable in all pictures: window, page, files")
    add("--max-frames", type=positive, metavar="N", help="stop after N frames")
    add(
        "--half-life",
        type=_seconds,
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
        type=_address,
        metavar="[HOST:]PORT",
        help="show the loop on a page: for this machine alone, or where HOST is one that others reach, with a token",
    )
    add(
        "--token",
        type=_token,
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


def _path_with(suffixes: tuple[str, ...]) -> Callable[[str], Path]:
    """An argparse type: a path with one of these suffixes."""

    def path(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must end in one of {' '.join(suffixes)}")
        return Path(text)

    return path


def _value(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type of a function that raises ValueError, whose own words are shown."""

    def value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


def _number(text: str) -> float:
    """A number of at least 0; raises ValueError."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"expected a number of at least 0, found {text!r}")
    return number


def _fourcc(text: str) -> str:
    """The four characters of a codec, in capitals; raises ValueError."""
    if not (len(text) == 4 and text.isascii() and text.isalnum()):
        raise ValueError(f"expected four letters as in MJPG or YUYV, found {text!r}")
    return text.upper()


def _address(text: str) -> Address:
    """An argparse type: where the page is served."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _token(text: str) -> str:
    """An argparse type: a token that is not guessed by trying."""
    if len(text) < SHORTEST_TOKEN:
        raise argparse.ArgumentTypeError(f"expected at least {SHORTEST_TOKEN} characters, found {len(text)}")
    return text


def _broker(text: str) -> Broker:
    """An argparse type; its message does not repeat the text, which may hold a password."""
    try:
        return parse_broker(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return number


def _seconds(text: str) -> float:
    """An argparse type: a finite duration of at least 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, found {text!r}")
    return seconds
