"""A network camera for tests: an HTTP server that sends JPEGs one after another and then fails in a chosen way."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np


@contextlib.contextmanager
def mjpeg_server(
    images: Sequence[np.ndarray], pause: float = 0.04, then: Literal["close", "hang", "repeat"] = "close", port: int = 0
) -> Iterator[str]:
    """Serve the BGR images `pause` seconds apart to every client. Yields host:port.

    After the last image the connection closes, or hangs until the block ends, or the images repeat until then.
    """
    encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    over = threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for jpeg in itertools.cycle(encoded) if then == "repeat" else encoded:
                    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    self.wfile.write(part + jpeg + b"\r\n")
                    if over.wait(pause):
                        return
                if then == "hang":
                    over.wait()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with serving(Camera, port) as address:
        try:
            yield address
        finally:
            over.set()


@contextlib.contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Run a server with that handler on a local port, 0 for a free one. Yields host:port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
