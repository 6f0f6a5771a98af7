"""The command line of the webcam loop. Imports no OpenCV, so that --help works where OpenCV does not."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.broker import Broker, parse_broker

HERE = Path(__file__).parent
MODEL = HERE / "models" / "iern_edge.onnx"
DEMO_CLIP = HERE / "media" / "demo.mp4"

RECORDINGS = (".mp4", ".avi", ".webm")
STILLS = (".png", ".jpg", ".jpeg")

EXAMPLES = """\
examples:
  webcam.py                                    camera 0 in a window; q or Esc leaves
  webcam.py --source 1                         the second camera (Linux: also /dev/video2)
  webcam.py --source clip.mp4 --headless --record out.webm
                                               annotate a video on a machine without a display
  webcam.py --source rtsp://user:password@camera/stream --jsonl answers.jsonl
                                               a network camera, its answers as data
  webcam.py --source photo.jpg --headless --still annotated.png
  webcam.py --source photos/ --headless        one line of answers an image
  webcam.py --provider cuda --strict           the GPU, or an error instead of the CPU
  webcam.py --model office.fp16.engine --rebuild
                                               a TensorRT engine, built again where it does not fit

Files and folders give every frame. Cameras and streams give the latest frame only: what the loop
cannot keep up with is dropped and counted, and the picture never lags behind.

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
    demo: bool = False


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
        help="camera number, /dev/video*, video file, image, folder of images, or RTSP/HTTP URL (default: camera 0)",
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
    add("--blur-faces", action="store_true", help="make faces unrecognisable in the recording and the still")
    add("--max-frames", type=positive, metavar="N", help="stop after N frames")
    add(
        "--demo",
        action="store_true",
        help="show it: the source, or the bundled clip where it does not open; a window, or without a display "
        "demo_output/annotated.webm and demo_output/still.png",
    )
    options = Options(**vars(parser.parse_args(argv)))
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
