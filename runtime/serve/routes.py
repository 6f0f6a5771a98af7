"""What the server answers: the page's files, the stream, the controls, and two addresses for machines.

Every address is relative to the page, so that a proxy may put it under any path. No address holds a file's name: the
page's files and the log are the only ones that leave, and nothing in a request can name another.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from iern.runtime.drawing.overlay import PALETTE
from iern.runtime.errors import IernError
from iern.runtime.serve.controls import Controls
from iern.runtime.serve.feed import Feed
from iern.runtime.serve.meter import TEXT_FORMAT, Meter

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

PAGE = Path(__file__).parent / "page"
FILES = {"/": "page.html", "/page.js": "page.js", "/chart.js": "chart.js", "/page.css": "page.css"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

MOST_VIEWERS = 64
"""More open pages are refused: each holds a socket and up to a picture."""
PATIENCE = 10.0
"""Seconds for which a viewer may not read before the line is cut."""
SEND_BUFFER = 1 << 17
"""Bytes that the system keeps for a viewer: by default it keeps seconds of old pictures for one that is slow."""
LAST_LINE = 1 << 16
"""Bytes at the end of a log in which its last whole line is looked for."""


class Routes:
    """The handlers, over one feed and the loop's controls, if it has any."""

    def __init__(self, feed: Feed, meter: Meter, controls: Controls | None, stalled_after: float) -> None:
        self._feed = feed
        self._meter = meter
        self._controls = controls
        self._stalled_after = stalled_after
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="page controls")

    def add_to(self, app: web.Application) -> None:
        """Register every address."""
        for address, file in FILES.items():
            app.router.add_get(address, _file(PAGE / file))
        app.router.add_get("/stream", self.stream, allow_head=False)
        app.router.add_get("/state", self.state)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/healthz", self.health)
        if self._controls is not None:
            app.router.add_get("/log", self.log, allow_head=False)
            app.router.add_post("/recording", self.record)
            app.router.add_post("/source", self.choose)

    def close(self) -> None:
        """Ends the controls' thread, without waiting for what it is doing: that may be waiting for us."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Messages of the feed, until the viewer leaves or stops reading."""
        if self._feed.watchers >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_VIEWERS} pages are open already\n")
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        if request.transport is not None:
            line = request.transport.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        with _cut_when_stuck(request):
            await response.prepare(request)
            async with contextlib.aclosing(self._feed.messages()) as messages:
                async for message in messages:
                    await asyncio.wait_for(response.write(message), PATIENCE)
        return response

    async def state(self, _: web.Request) -> web.Response:
        """JSON for the page: "stalled", the expressions' "palette", and "controls" (null where there are none)."""
        palette = [f"rgb({red}, {green}, {blue})" for blue, green, red in PALETTE]
        about = None if self._controls is None else _about(self._controls)
        return web.json_response({"stalled": self._stalled(), "palette": palette, "controls": about})

    async def record(self, request: web.Request) -> web.Response:
        """Takes {"on": true or false}."""
        assert self._controls is not None
        on = await _value(request, "on", bool)
        return await self._ask(self._controls.start_recording if on else self._controls.stop_recording)

    async def choose(self, request: web.Request) -> web.Response:
        """Takes {"name": one of the allowed sources}."""
        controls, name = self._controls, await _value(request, "name", str)
        assert controls is not None
        if name not in controls.sources:
            raise web.HTTPNotFound(text="not among the sources that the operator allowed\n")
        return await self._ask(lambda: controls.choose_source(name))

    async def log(self, request: web.Request) -> web.StreamResponse:
        """The log until its last whole line, while it goes on being written."""
        assert self._controls is not None
        path = self._controls.log
        loop = asyncio.get_running_loop()
        try:
            file, size = await loop.run_in_executor(None, _open_whole_lines, path) if path else (None, 0)
        except OSError:
            file = None
        if path is None or file is None:
            raise web.HTTPNotFound(text="there is no log\n")
        with file, _cut_when_stuck(request):
            response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="log{path.suffix}"'})
            response.content_type, response.content_length = "application/octet-stream", size
            await response.prepare(request)
            while size > 0 and (block := await loop.run_in_executor(None, file.read, min(size, 1 << 18))):
                await asyncio.wait_for(response.write(block), PATIENCE)
                size -= len(block)
        return response

    async def metrics(self, _: web.Request) -> web.Response:
        """For Prometheus."""
        return web.Response(body=self._meter.text(), headers={"Content-Type": TEXT_FORMAT})

    async def health(self, _: web.Request) -> web.Response:
        """200 while frames come, 503 before the first and when they stop."""
        silence = self._feed.silence()
        if not self._stalled():
            return web.Response(text="frames come\n")
        since = "no frame yet" if math.isnan(silence) else f"no frame for {silence:.0f} s"
        return web.Response(status=503, text=since + "\n")

    def _stalled(self) -> bool:
        return not self._feed.silence() < self._stalled_after  # NaN before the first frame

    async def _ask(self, action: Callable[[], None]) -> web.Response:
        """Let the loop do it; 409 with its reason where it cannot."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, action)
        except (IernError, OSError) as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return web.Response(status=204)


@contextlib.contextmanager
def _cut_when_stuck(request: web.Request) -> Iterator[None]:
    """For a long answer: where its reader left, or does not read, or the server ends, the line is cut at once.

    An orderly end would wait until the reader has taken what is on its way to it.
    """
    transport = request.transport
    try:
        yield
    except (ConnectionError, asyncio.TimeoutError, asyncio.CancelledError) as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, asyncio.CancelledError):
            raise


def _about(controls: Controls) -> dict[str, Any]:
    return {
        "recording": controls.recording,
        "sources": list(controls.sources),
        "source": controls.source,
        "log": controls.log is not None,
    }


def _file(path: Path) -> Callable[[web.Request], Any]:
    body = path.read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=TYPES[path.suffix], charset="utf-8")

    return answer


async def _value(request: web.Request, key: str, kind: type) -> Any:
    """The one value of a JSON body. A form, which any site may send, cannot be JSON by its header."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
    try:
        value = (await request.json())[key]
    except (ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, kind):
        raise web.HTTPBadRequest(text=f"expected a JSON object with {key!r}: a {kind.__name__}\n")
    return value


def _open_whole_lines(path: Path) -> tuple[IO[bytes], int]:
    """The file from its start, and the bytes until the end of its last whole line."""
    file = open(path, "rb")  # noqa: SIM115  the caller closes it
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - LAST_LINE)
    file.seek(start)
    tail = file.read(size - start)
    file.seek(0)
    return file, start + tail.rfind(b"\n") + 1
