"""Program: a network camera that fails in every way in turn, round after round, until the process is ended.

It prints its port as soon as it listens. It is a separate program, so that its memory is not counted as the loop's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import itertools
import threading
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from benchmarks import ROOT

CLIP = ROOT / "runtime" / "media" / "demo.mp4"
FPS = 25
SIZES = ((640, 480), (321, 241), (1280, 720))
"""Width and height of successive rounds."""

ROUND = (
    ("plays", 0.4),
    ("changes its size", 0.2),
    ("is black", 0.1),
    ("freezes", 0.1),
    ("hangs", 0.1),
    ("closes the connection", 0.02),
    ("is down", 0.08),
)
"""What the camera does, and for which share of a round."""


class FailingCamera:
    """The state and the pictures of the camera, the same for all its clients."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is the length of a round."""
        self._seconds = seconds
        self._start = time.monotonic()
        self._frames = {size: _encoded(size) for size in SIZES}
        self._black = {size: _jpeg(np.zeros((size[1], size[0], 3), np.uint8)) for size in SIZES}

    def now(self) -> tuple[str, tuple[int, int]]:
        """What the camera does now, and the size of its pictures."""
        rounds, part = divmod((time.monotonic() - self._start) / self._seconds, 1)
        ends = itertools.accumulate(share for _, share in ROUND)
        what = next((what for (what, _), end in zip(ROUND, ends, strict=True) if part < end), ROUND[-1][0])
        return what, SIZES[(int(rounds) + (what == "changes its size")) % len(SIZES)]

    def pictures(self) -> Iterator[bytes]:
        """JPEGs at the camera's rate, until the connection must be closed."""
        shown = b""
        for number in itertools.count():
            what, size = self.now()
            if what in ("closes the connection", "is down"):
                return
            if what == "hangs":
                time.sleep(0.05)
                continue
            if what == "is black":
                shown = self._black[size]
            elif what != "freezes" or not shown:
                shown = self._frames[size][number % len(self._frames[size])]
            yield shown
            time.sleep(1 / FPS)


def _encoded(size: tuple[int, int]) -> Sequence[bytes]:
    """Six seconds of the bundled clip in that size; each second shows its picture 1, 4, 16 or 0 times."""
    capture, jpegs = cv2.VideoCapture(str(CLIP)), []
    for across in (1, 2, 1, 4, 1, 0):
        pictures = [capture.read()[1] for _ in range(FPS)]
        jpegs += [_jpeg(_tiled(picture, across, size)) for picture in pictures if picture is not None]
    return jpegs


def _tiled(image: np.ndarray, across: int, size: tuple[int, int]) -> np.ndarray:
    """The picture repeated `across` times across and down, at that width and height; grey for 0."""
    if not across:
        return np.full((size[1], size[0], 3), 127, np.uint8)
    return cv2.resize(np.tile(image, (across, across, 1)), size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", image)[1])


def serve(camera: FailingCamera, port: int) -> http.server.ThreadingHTTPServer:
    """Start the camera's server and return it. It listens already."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for jpeg in camera.pictures():
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    self.wfile.write(head + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def main() -> None:
    """Serve the camera, with its times without a server, until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak.camera",
        description="Serve a camera that fails in every way in turn.",
        allow_abbrev=False,
    )
    parser.add_argument("--round", type=float, default=60, metavar="SECONDS", help="length of a round of failures")
    camera = FailingCamera(parser.parse_args().round)
    server: http.server.ThreadingHTTPServer | None = serve(camera, 0)
    assert server
    port = server.server_port
    print(port, flush=True)
    while True:
        time.sleep(0.1)
        down = camera.now()[0] == "is down"
        if down and server:
            server.shutdown()
            server.server_close()
            server = None
        elif not down and not server:
            server = serve(camera, port)


if __name__ == "__main__":
    main()
