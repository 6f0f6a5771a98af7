"""A page for tests: made-up results, controls without a loop, and a client that reads the page's stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
from aiohttp import web

from iern.runtime.errors import OutputError
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.serve.address import parse_address
from iern.runtime.serve.controls import RunFile
from iern.runtime.serve.server import page_server
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency

EXPRESSIONS = ("neutral", "happy", "sad")


class Reply(NamedTuple):
    status: int
    headers: Any
    text: str


class FakeControls:
    """Controls without a loop: they remember which button was pressed."""

    def __init__(
        self, *files: RunFile, sources: Sequence[str] = ("camera 0", "hall"), blur_fixed: bool = False
    ) -> None:
        self.recording = False
        self.sources = sources
        self.source = sources[0]
        self.files = list(files)
        self.full = False
        self.blur = self.blur_fixed = blur_fixed
        self.overlay = True
        self.half_life = 0.1

    def start_recording(self) -> None:
        if self.full:
            raise OutputError("out.mkv: the disk is full; make room")
        self.recording = True

    def stop_recording(self) -> None:
        self.recording = False

    def select_source(self, name: str) -> None:
        self.source = name

    def set_blur(self, on: bool) -> None:
        self.blur = on

    def set_overlay(self, on: bool) -> None:
        self.overlay = on

    def set_half_life(self, seconds: float) -> None:
        self.half_life = seconds


def numbered_result(index: int, faces: int = 1, size: tuple[int, int] = (120, 160), dropped: int = 0) -> FrameResult:
    """A result whose grey level is its index, so that pictures can be distinguished."""
    frame = Frame(np.full((*size, 3), index % 256, np.uint8), index / 30, index, "camera 0", time.monotonic())
    share = 0.5 + 0.3 * np.sin(index / 10)
    probabilities = dict(zip(EXPRESSIONS, (share, 0.8 - share + 0.1, 0.1), strict=True))
    found = [
        Face(Detection(20.0 + 60 * number, 30.0, 40.0, 50.0, np.zeros((5, 2)), 0.9), probabilities, 0.2 + number / 10)
        for number in range(faces)
    ]
    return FrameResult(frame, found, Latency(detect=5.0, preprocess=1.0, infer=4.0, age=12.0), "30 fps", dropped)


@contextlib.contextmanager
def page(capsys: Any, address: str = "127.0.0.1:0", **options: Any) -> Iterator[tuple[Sink, str]]:
    """The real server; yields its sink and the address that it printed."""
    with page_server(parse_address(address), **options) as sink:
        yield sink, re.search(r"http://\S+", capsys.readouterr().out)[0]


def fetch(url: str, method: str = "GET", **options: Any) -> Reply:
    """One request and its response. Redirections are not followed."""

    async def request() -> Reply:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
            session.request(method, url, allow_redirects=False, **options) as reply,
        ):
            return Reply(reply.status, reply.headers, await reply.text())

    return asyncio.run(request())


async def read_message(stream: aiohttp.StreamReader) -> tuple[dict[str, Any], np.ndarray | None]:
    """The next message of a stream: its JSON, and its picture as (H, W, 3) BGR or None."""
    text, jpeg = struct.unpack("!II", await stream.readexactly(8))
    values = json.loads(await stream.readexactly(text))
    data = await stream.readexactly(jpeg)
    return values, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if jpeg else None


def until(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait until the condition holds. Returns whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def watch_page(
    url: str, sink: Sink, results: Sequence[FrameResult], enough: Callable[[list], bool], **options: Any
) -> list:
    """Open the stream, pass the results to the sink over and over, and collect messages until there are enough."""

    async def read() -> list:
        got: list = []
        async with aiohttp.ClientSession() as session, session.get(f"{url}stream", **options) as reply:
            assert reply.status == 200
            feeding = asyncio.create_task(feed())
            try:
                while not enough(got):
                    got.append(await asyncio.wait_for(read_message(reply.content), 30))
            finally:
                feeding.cancel()
        return got

    async def feed() -> None:
        while True:
            for result in results:
                sink(result)
                await asyncio.sleep(0.05)

    return asyncio.run(read())


def open_stream(url: str, receive: int | None = None) -> socket.socket:
    """A viewer that has requested the stream and has read nothing yet."""
    place = urlsplit(url)
    line = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    line.settimeout(30)
    line.connect((place.hostname, place.port))
    line.sendall(f"GET /stream HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    return line


def reset(line: socket.socket) -> None:
    """Leave with a reset, as a machine does that is switched off and on."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


@contextlib.contextmanager
def thirty_viewers(url: str) -> Iterator[tuple[list[socket.socket], Callable[[float], list[int]]]]:
    """Twenty viewers that do not read, five that have left with a reset, and five that read when `read` is called.

    Yields the twenty, and `read(seconds)`, which returns the bytes that each of the five received.
    """
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(open_stream(url, receive=4096)) for _ in range(20)]
        leaving = [open_stream(url) for _ in range(5)]
        reading = [stack.enter_context(open_stream(url)) for _ in range(5)]
        assert until(lambda: viewers(url) == 30)
        for line in leaving:
            assert line.recv(1)
            reset(line)

        def read(seconds: float) -> list[int]:
            end, received = time.monotonic() + seconds, [0] * len(reading)
            while time.monotonic() < end:
                for number, line in enumerate(reading):
                    received[number] += len(line.recv(1 << 20))
            return received

        yield stuck, read


def viewers(url: str) -> int:
    """The number of viewers that the server counts."""
    (line,) = [line for line in fetch(f"{url}metrics").text.splitlines() if line.startswith("iern_viewers ")]
    return int(float(line.split()[1]))


@contextlib.contextmanager
def behind_proxy(url: str, prefix: str) -> Iterator[str]:
    """A reverse proxy that puts the page at `url` under the path `prefix`; yields the page's address there.

    As nginx does by default, it sends the Host of the page and passes the other headers on.
    """
    place, _, query = url.partition("?")

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        address = place + request.path_qs.removeprefix(prefix)
        body = await request.read()
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(request.method, address, headers=headers, data=body, allow_redirects=False) as reply,
        ):
            response = web.StreamResponse(status=reply.status, headers=reply.headers)
            response.headers.popall("Transfer-Encoding", None)
            await response.prepare(request)
            async for block in reply.content.iter_any():
                await response.write(block)
            return response

    app = web.Application()
    app.router.add_route("*", prefix + "{rest:.*}", forward)
    with running(app) as base:
        yield f"{base}{prefix.removeprefix('/')}{'?' if query else ''}{query}"


@contextlib.contextmanager
def running(app: web.Application, **options: Any) -> Iterator[str]:
    """The application on a free port of this machine, in a thread of its own; yields its address.

    `options` are those of aiohttp's runner.
    """
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=0.1, **options)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/"

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Call `work(over)` in a thread until the block ends."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
