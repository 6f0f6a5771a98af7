"""Program: network cameras that play the bundled clip at a fixed rate, until the process is ended.

It prints its port as soon as it listens. Each address `/N` is a camera of its own. It is a separate program, so that
its processor time is not counted as the loop's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import itertools
import time
from collections.abc import Sequence

import cv2

from iern.runtime.bundled import DEMO_CLIP

SIZE = (640, 480)
"""Width and height of the pictures."""
PHASE = 0.37
"""Frames by which each camera is later than the one before: cameras are not in step."""


def clip_as_jpegs() -> list[bytes]:
    """Every frame of the bundled clip."""
    capture, jpegs = cv2.VideoCapture(str(DEMO_CLIP)), []
    while (read := capture.read())[0]:
        jpegs.append(cv2.imencode(".jpg", cv2.resize(read[1], SIZE))[1].tobytes())
    capture.release()
    return jpegs


def handler(jpegs: Sequence[bytes], fps: float) -> type[http.server.BaseHTTPRequestHandler]:
    """A class that answers each request with the clip, over and over, each frame at its time."""

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            start = time.monotonic() + PHASE * int(self.path[1:] or 0) % 1 / fps
            with contextlib.suppress(ConnectionError):
                for number, jpeg in enumerate(itertools.cycle(jpegs)):
                    time.sleep(max(0.0, start + number / fps - time.monotonic()))
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    self.wfile.write(head + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Camera


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cameras.server", description="Serve cameras that play a clip.", allow_abbrev=False
    )
    parser.add_argument("--fps", type=float, default=15, metavar="N", help="frames a second (default: 15)")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(clip_as_jpegs(), parser.parse_args().fps))
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
