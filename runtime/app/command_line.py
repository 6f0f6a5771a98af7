"""The command line of the webcam loop. It imports no OpenCV, so that --help works without OpenCV."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from iern.runtime.app.help_text import EPILOG
from iern.runtime.app.source_options import add_camera_modes, add_sources, default_sources, problem_of_sources
from iern.runtime.backends.model_options import add_model_options
from iern.runtime.bundled import MODEL
from iern.runtime.faces.smoothing import HALF_LIFE
from iern.runtime.outputs.broker import Broker, Publishing, parse_broker, parse_prefix
from iern.runtime.serve.address import Address, parse_address
from iern.runtime.sources.settings import LiveTimeouts, RawFormat, SourceSettings
from iern.runtime.system.append_only_file import STDOUT
from iern.runtime.system.arguments import (
    Parser,
    dated_path,
    number,
    path_with,
    positive,
    token,
    value_of,
)

if TYPE_CHECKING:
    from iern.runtime.artifact import Prior
    from iern.runtime.faces.search import Search

RECORDINGS = (".mp4", ".webm")
STILLS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Options:
    """The command line's values. A path is None if that file is not to be written."""

    sources: tuple[str, ...] = ("0",)
    model: Path = MODEL
    prior: Prior | None = None
    provider: str = "auto"
    precision: str = "auto"
    strata: Literal["auto", "full"] = "auto"
    strict: bool = False
    rebuild: bool = False
    headless: bool = False
    mirror: bool = False
    record: Path | None = None
    still: Path | None = None
    annotate: Path | None = None
    jsonl: Path | None = None
    csv: Path | None = None
    mqtt: Broker | None = None
    mqtt_rate: float = 0.0
    mqtt_on_change: bool = False
    mqtt_ca: Path | None = None
    mqtt_discovery: str | None = None
    summary: Path | None = None
    power: bool = False
    blur_faces: bool = False
    max_frames: int | None = None
    half_life: float = HALF_LIFE
    search: Search = "tracked"
    detect_size: int | None = None
    demo: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    codec: str | None = None
    stdin_format: RawFormat | None = None
    frozen_after: float = LiveTimeouts.frozen
    give_up: float = LiveTimeouts.give_up
    list_cameras: bool = False
    serve: Address | None = None
    token: str | None = None
    allow_source: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The only source, or the first of several."""
        return self.sources[0]

    @property
    def writes_to_stdout(self) -> bool:
        """Return whether records go to the standard output. What the loop prints then goes to stderr."""
        return STDOUT in (self.jsonl, self.csv)

    @property
    def publishing(self) -> Publishing:
        """Return how records are published over MQTT."""
        return Publishing(self.mqtt_rate, self.mqtt_on_change, self.mqtt_ca, self.mqtt_discovery)

    @property
    def source_settings(self) -> SourceSettings:
        """Return the requests to the source besides its name."""
        timeouts = LiveTimeouts(frozen=self.frozen_after or float("inf"), give_up=self.give_up)
        return SourceSettings(self.size, self.fps, self.codec, self.stdin_format, timeouts)


def parse(argv: Sequence[str] | None = None) -> Options:
    """Arguments (default: those of the process) -> options. Wrong ones exit with status 2 and a usage line."""
    parser = Parser(
        prog="webcam.py",
        description="Find the faces in every frame and predict their expressions, live.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        fromfile_prefix_chars="@",
    )
    for add_options in (add_sources, _outputs, _mqtt, _page, _model, _faces_over_time, add_camera_modes):
        add_options(parser)
    arguments = vars(parser.parse_args(argv))
    sources = tuple(arguments["sources"] or default_sources())
    options = Options(**arguments | {"sources": sources, "allow_source": tuple(arguments["allow_source"])})
    if problem := problem_of_sources(options):
        parser.error(problem)
    if options.allow_source and not options.serve:
        parser.error("--allow-source needs --serve: viewers switch sources on the page")
    if options.publishing != Publishing() and not options.mqtt:
        parser.error("--mqtt-rate, --mqtt-on-change, --mqtt-ca and --mqtt-discovery need --mqtt URL")
    if options.mqtt_ca and options.mqtt and not options.mqtt.tls:
        parser.error("--mqtt-ca needs TLS: an address that begins with mqtts; otherwise no certificate is checked")
    if options.mirror and options.headless:
        parser.error("--mirror is for the window, and --headless opens none; leave out one of them")
    if options.jsonl == options.csv == STDOUT:
        parser.error("--jsonl - and --csv -: only one of them can be the standard output")
    if options.rebuild and options.model.suffix.lower() != ".engine":
        parser.error(f"--rebuild needs a --model that ends in .engine, found {options.model}")
    return options


def _outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "outputs", "If an output fails, the error is printed and the loop continues without it."
    ).add_argument
    add("--headless", action="store_true", help="open no window; for machines without a display")
    add(
        "--mirror",
        action="store_true",
        help="show the picture in the window as a mirror does, for a camera that faces the viewer; m switches it; "
        "records, recordings, snapshots and the page stay as the camera saw it",
    )
    add(
        "--record",
        type=path_with(RECORDINGS),
        metavar="FILE",
        help="write the annotated video, as .mp4 (H.264) or .webm (VP9), with the sound of a video file; the file can "
        "be played at any time, even after a crash",
    )
    add(
        "--still",
        type=path_with(STILLS),
        metavar="FILE",
        help="write the annotated frame with the most faces (the last of them) as .png or .jpg",
    )
    add(
        "--annotate",
        type=dated_path,
        metavar="FOLDER",
        help="write every picture of an image or a folder with its faces drawn, under the same name; no file there is "
        "replaced; a video or camera takes --record",
    )
    add(
        "--jsonl",
        type=_records_path,
        metavar="FILE",
        help="write one JSON record per frame, see below; - is the standard output",
    )
    add(
        "--csv",
        type=_records_path,
        metavar="FILE",
        help="write one CSV row per face; docs/records.md lists the columns; - is the standard output",
    )
    add(
        "--summary",
        type=path_with((".html", ".htm", ".json")),
        metavar="FILE",
        help="write an HTML page about the session at its end: time per expression and face, timeline, latency; or its "
        "totals as .json",
    )
    add(
        "--power",
        action="store_true",
        help="print the joules per frame and per face at the end, and write them into --summary, where the machine "
        "measures them: NVIDIA GPUs, Jetsons, processors by Intel and AMD",
    )
    add(
        "--blur-faces",
        action="store_true",
        help="make faces unrecognisable in every picture: window, page and files",
    )


def _mqtt(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("MQTT", "Needs pip install 'iern[mqtt]'.").add_argument
    add(
        "--mqtt",
        type=value_of(parse_broker),
        metavar="URL",
        help="publish the JSON records: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; "
        "TOPIC/availability is online or offline",
    )
    add("--mqtt-rate", type=value_of(number), default=0.0, metavar="N", help="publish at most N records a second")
    add(
        "--mqtt-on-change",
        action="store_true",
        help="publish a record only when a face comes or goes or has another expression",
    )
    add(
        "--mqtt-ca",
        type=Path,
        metavar="FILE",
        help="certificates of the authorities that mqtts:// trusts, in PEM (default: those of the system)",
    )
    add(
        "--mqtt-discovery",
        nargs="?",
        const="homeassistant",
        type=value_of(parse_prefix),
        metavar="PREFIX",
        help="let Home Assistant find the main expression and the number of faces; PREFIX is its prefix for discovery "
        "(default: homeassistant)",
    )


def _records_path(text: str) -> Path:
    """An argparse type: a path as `dated_path`, or `-`."""
    return STDOUT if text == "-" else dated_path(text)


def _page(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("live page").add_argument
    add(
        "--serve",
        type=value_of(parse_address),
        metavar="[HOST:]PORT",
        help="show the loop on a web page, for this machine only; if other machines can reach HOST, the page needs a "
        "token",
    )
    add(
        "--token",
        type=token,
        default=os.environ.get("IERN_TOKEN") or None,
        help="token of the page (default: $IERN_TOKEN; if a token is needed and none is given, a random one is "
        "printed)",
    )
    add(
        "--allow-source",
        action="append",
        default=[],
        metavar="S",
        help="repeat --allow-source S to let viewers switch between these sources and --source",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    add = add_model_options(parser)
    add(
        "--strata",
        choices=("auto", "full"),
        default="auto",
        help="full runs all strata of the model in every frame; auto runs the file with collapsed strata beside it "
        "(my.collapsed.onnx for my.onnx, made by export/to_trt.py --strata collapsed), which gives the same answers "
        "for less, and all strata once a second, for how far they disagree (default: auto)",
    )
    add(
        "--rebuild",
        action="store_true",
        help="if an .engine does not fit this machine, build it again from its .onnx, which takes minutes",
    )


def _faces_over_time(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("faces over time").add_argument
    add(
        "--half-life",
        type=value_of(number),
        default=HALF_LIFE,
        metavar="S",
        help="average each face's predictions over time; a prediction counts half after S seconds, 0 means no average "
        f"(default: {HALF_LIFE:g})",
    )
    add(
        "--search",
        choices=("tracked", "every-frame"),
        default="tracked",
        help="where faces are looked for: tracked searches around the known faces, and the whole frame five times a "
        "second, so a new face is seen up to 0.2 s late; every-frame searches the whole of every frame, which takes "
        "several times as long; images are always searched whole (default: tracked)",
    )
    add(
        "--detect-size",
        type=positive,
        metavar="PIXELS",
        help="detect faces in a copy of the frame whose longer side has at most PIXELS; larger copies show smaller "
        "faces, and take longer (default: 640, or what a photograph needs if the source is an image or a folder)",
    )
