"""A real RTSP camera for tests: Debian's GStreamer server in a process of its own, which can be killed and stopped."""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import subprocess
from collections.abc import Iterator

PYTHON = "/usr/bin/python3"
"""Only the system's own Python has `gi`."""

IMPORTS = """
import gi, sys
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay"))
"""

SERVE = """
port, pattern, size, user, password = sys.argv[1:]
width, height = size.split("x")
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_shared(True)
factory.set_launch(
    f"( videotestsrc is-live=true pattern={pattern} ! video/x-raw,width={width},height={height},framerate=25/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
server = GstRtspServer.RTSPServer()
if user:
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("viewer,media.factory.access=true,media.factory.construct=true")
    )
server.set_service(port)
server.set_address("127.0.0.1")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


@functools.cache
def rtsp_problem() -> str:
    """Why no server can be started here, with the remedy; empty if one can."""
    try:
        works = subprocess.run([PYTHON, "-c", IMPORTS], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    remedy = (
        "no RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
        "gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav"
    )
    return "" if works else remedy


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def rtsp_server(
    port: int, pattern: str = "snow", size: str = "320x240", user: str = "", password: str = ""
) -> Iterator[subprocess.Popen]:
    """Serve `/cam` at that port. Yields the process when it answers, and kills it at the end."""
    command = [PYTHON, "-c", IMPORTS + SERVE, str(port), pattern, size, user, password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
