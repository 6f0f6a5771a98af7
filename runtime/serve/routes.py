"""The addresses of the server: the page's files, the stream, the controls, and those for programs.

Every address is relative to the page, so that a proxy may put it under any path. No address contains a file name: the
page's files and the log are the only files that the server sends, and no request can name another.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from iern.runtime.drawing.overlay import PALETTE
from iern.runtime.errors import IernError
from iern.runtime.serve import long_responses
from iern.runtime.serve.controls import PageControls
from iern.runtime.serve.feed import LiveFeed
from iern.runtime.serve.long_responses import disconnected_if_stuck, refuse_if_crowded, send_parts
from iern.runtime.serve.program_routes import ProgramRoutes
from iern.runtime.serve.prometheus_metrics import TEXT_FORMAT, PrometheusMetrics

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

PAGE = Path(__file__).parent / "page"
FILES = {"/": "page.html", "/page.js": "page.js", "/chart.js": "chart.js", "/page.css": "page.css"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

LOG_TAIL = 1 << 16
"""Bytes at the end of a log that are searched for the end of its last whole line."""


class Routes:
    """The handlers of all addresses, for one feed and, if there are any, the loop's controls."""

    def __init__(self, feed: LiveFeed, metrics: PrometheusMetrics, controls: PageControls | None) -> None:
        self._feed = feed
        self._metrics = metrics
        self._controls = controls
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="page controls")

    def add_to(self, app: web.Application) -> None:
        """Register every address."""
        for address, file in FILES.items():
            app.router.add_get(address, _file(PAGE / file))
        app.router.add_get("/stream", self.stream, allow_head=False)
        app.router.add_get("/state", self.state)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/healthz", self.health)
        ProgramRoutes(self._feed).add_to(app)
        if self._controls is not None:
            app.router.add_get("/log", self.log, allow_head=False)
            app.router.add_post("/recording", self.set_recording)
            app.router.add_post("/source", self.set_source)

    def close(self) -> None:
        """Stop the controls' thread, without waiting for its current call: that may be waiting for the loop."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send messages of the feed, until the viewer leaves or stops reading."""
        refuse_if_crowded(self._feed)
        return await send_parts(request, self._feed.messages(), "application/octet-stream")

    async def state(self, _: web.Request) -> web.Response:
        """JSON for the page: "stalled", the expressions' "palette", and "controls" (null if there are none)."""
        palette = [f"rgb({red}, {green}, {blue})" for blue, green, red in PALETTE]
        controls = None if self._controls is None else _controls_state(self._controls)
        return web.json_response({"stalled": self._feed.stalled, "palette": palette, "controls": controls})

    async def set_recording(self, request: web.Request) -> web.Response:
        """Start or stop the recording. The body is {"on": true or false}."""
        assert self._controls is not None
        on = await _value(request, "on", bool)
        return await self._run_control(self._controls.start_recording if on else self._controls.stop_recording)

    async def set_source(self, request: web.Request) -> web.Response:
        """Switch to another source. The body is {"name": one of the allowed sources}."""
        controls, name = self._controls, await _value(request, "name", str)
        assert controls is not None
        if name not in controls.sources:
            raise web.HTTPNotFound(text="not one of the sources that the operator allowed\n")
        return await self._run_control(lambda: controls.select_source(name))

    async def log(self, request: web.Request) -> web.StreamResponse:
        """The log until its last whole line. The loop may be writing to it meanwhile."""
        assert self._controls is not None
        path = self._controls.log
        loop = asyncio.get_running_loop()
        try:
            file, size = await loop.run_in_executor(None, _open_whole_lines, path) if path else (None, 0)
        except OSError:
            file = None
        if path is None or file is None:
            raise web.HTTPNotFound(text="there is no log\n")
        with file, disconnected_if_stuck(request):
            response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="log{path.suffix}"'})
            response.content_type, response.content_length = "application/octet-stream", size
            await response.prepare(request)
            while size > 0 and (block := await loop.run_in_executor(None, file.read, min(size, 1 << 18))):
                await asyncio.wait_for(response.write(block), long_responses.SEND_TIMEOUT)
                size -= len(block)
        return response

    async def metrics(self, _: web.Request) -> web.Response:
        """The metrics for Prometheus."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": TEXT_FORMAT})

    async def health(self, _: web.Request) -> web.Response:
        """Status 200 while frames come, 503 before the first and when they stop."""
        seconds = self._feed.seconds_since_last()
        if not self._feed.stalled:
            return web.Response(text="frames come\n")
        since = "no frame yet" if math.isnan(seconds) else f"no frame for {seconds:.0f} s"
        return web.Response(status=503, text=since + "\n")

    async def _run_control(self, action: Callable[[], None]) -> web.Response:
        """Call a control of the loop. If it fails, the status is 409 and the text is the reason."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, action)
        except (IernError, OSError) as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return web.Response(status=204)


def _controls_state(controls: PageControls) -> dict[str, Any]:
    return {
        "recording": controls.recording,
        "sources": list(controls.sources),
        "source": controls.source,
        "log": controls.log is not None,
    }


def _file(path: Path) -> Callable[[web.Request], Any]:
    body = path.read_bytes()

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=TYPES[path.suffix], charset="utf-8")

    return respond


async def _value(request: web.Request, key: str, kind: type) -> Any:
    """The value of `key` in a JSON body. The header must say JSON, which a form from another site cannot."""
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
    """The open file, at its start, and the number of bytes until the end of its last whole line."""
    file = open(path, "rb")  # noqa: SIM115  the caller closes it
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - LOG_TAIL)
    file.seek(start)
    tail = file.read(size - start)
    file.seek(0)
    return file, start + tail.rfind(b"\n") + 1
