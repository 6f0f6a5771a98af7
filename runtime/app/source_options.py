"""The sources on the command line: one or several, and what several of them rule out. It imports no OpenCV."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iern.runtime.sources.settings import LiveTimeouts, parse_raw_format, parse_size
from iern.runtime.sources.v4l2 import camera_lines
from iern.runtime.system.arguments import fourcc, number, positive, value_of

if TYPE_CHECKING:
    from iern.runtime.app.command_line import Options


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add --source, which may be repeated, and what belongs to it."""
    add = parser.add_argument_group("source").add_argument
    add(
        "--source",
        action="append",
        dest="sources",
        metavar="S",
        help="camera number, /dev/video*, csi://0 (Jetson), video file, image, folder of images, RTSP/HTTP URL, or - "
        "for raw frames from stdin (default: $IERN_SOURCE, or camera 0); repeat --source S to play several sources "
        "together, with one model and a picture of all of them ($IERN_SOURCES is a list, separated by blanks); "
        "--source @FILE reads S from a file, so that the list of processes shows no password",
    )
    add(
        "--demo",
        action="store_true",
        help="play the bundled clip in place of a source that cannot be opened; without a display, write "
        "demo_output/annotated.webm and demo_output/still.png",
    )
    add("--max-frames", type=positive, metavar="N", help="stop after N frames, of all sources together")
    add("--list-cameras", action="store_true", help="print the cameras of this machine with their modes, and exit")


def print_cameras() -> None:
    """Print what --list-cameras asks for."""
    print("\n".join(camera_lines()))


def add_camera_modes(parser: argparse.ArgumentParser) -> None:
    """Add what is requested of cameras, and when a live source is reopened."""
    add = parser.add_argument_group(
        "cameras, streams and raw frames", "With several sources, each gets these."
    ).add_argument
    add("--size", type=value_of(parse_size), metavar="WxH", help="frame size to request from a camera, as 1280x720")
    add("--fps", type=value_of(number), metavar="N", help="frames per second to request, or those of raw frames")
    add("--codec", type=value_of(fourcc), metavar="C", help="codec to request from a camera, as MJPG or YUYV")
    add(
        "--stdin-format",
        type=value_of(parse_raw_format),
        metavar="WxH:P",
        help="format of the raw frames of --source -, as 640x480:bgr24; P is bgr24, rgb24, bgra or gray",
    )
    add(
        "--frozen-after",
        type=value_of(number),
        default=LiveTimeouts.frozen,
        metavar="S",
        help="reopen a live source after S seconds of black or exactly equal frames, then after 2 S, 4 S, ... if that "
        "does not help; 0 means never (default: %(default)g)",
    )
    add(
        "--give-up",
        type=value_of(number),
        default=LiveTimeouts.give_up,
        metavar="S",
        help="end with an error if a live source stays lost for S seconds; 0 means at its first loss; the others of "
        "several continue (default: never)",
    )


def default_sources() -> Sequence[str]:
    """What is played without --source: $IERN_SOURCES, $IERN_SOURCE, or camera 0."""
    return os.environ.get("IERN_SOURCES", "").split() or [os.environ.get("IERN_SOURCE") or "0"]


def problem_of_sources(options: Options) -> str:
    """Why these options do not fit several sources. Empty if they do, or if there is only one."""
    if len(options.sources) == 1:
        return ""
    equal = _equal_ones(options.sources)
    if equal:
        return f"sources {equal[0]} and {equal[1]} are the same one, counted from 1; each may be given once"
    if "-" in options.sources or options.stdin_format:
        return "raw frames from stdin (--source -, --stdin-format) can only be the one source; leave out the others"
    if options.annotate:
        return "--annotate is for one source, an image or a folder; --record records several sources as a grid"
    if options.allow_source:
        return "--allow-source is for one source, which viewers switch; several sources are all shown at once"
    if options.mqtt_discovery:
        return "--mqtt-discovery is for one source; run one loop a camera, each with its own topic"
    return ""


def _equal_ones(sources: Sequence[str]) -> tuple[int, int] | None:
    """The places, from 1, of two equal sources. Their names may hold passwords."""
    places: dict[str, int] = {}
    for place, source in enumerate(sources, 1):
        first = places.setdefault(_normal(source), place)
        if first != place:
            return first, place
    return None


def _normal(source: str) -> str:
    """The same text for all ways to write a source."""
    if source.isdecimal():
        return f"/dev/video{int(source)}"
    return source if "://" in source or source == "-" else str(Path(source).absolute().resolve())
