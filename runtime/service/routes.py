"""The addresses of the service. Pictures are in memory while they are analysed, and nowhere afterwards."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iern.runtime.outputs.records import json_line, timed_records
from iern.runtime.serve.prometheus_metrics import TEXT_FORMAT
from iern.runtime.service.batcher import Batcher
from iern.runtime.service.camera import Camera, open_socket
from iern.runtime.service.limits import Admission, BusyError, Limits, RateLimit
from iern.runtime.service.metrics import ServiceMetrics
from iern.runtime.service.openapi import openapi
from iern.runtime.service.recognition import Recognition
from iern.runtime.service.upload import expected_bytes, receive_picture

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

PAGE = Path(__file__).parent / "page"
FILES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
GOING_AWAY = 1001
"""The code of RFC 6455 for a WebSocket whose server stops."""


class Routes:
    """The handlers of all addresses."""

    def __init__(self, recognition: Recognition, limits: Limits) -> None:
        self._recognition = recognition
        self._limits = limits
        self._admission = Admission(limits)
        self._rate = RateLimit(limits.rate)
        self._sockets: set[web.WebSocketResponse] = set()
        self._stopping = False
        self.metrics = ServiceMetrics(lambda: self._admission.requests)

    def add_to(self, app: web.Application) -> None:
        """Register every address, and what starts and ends with the application."""
        app.cleanup_ctx.append(self._running_batcher)
        app.on_shutdown.append(self._close_sockets)
        for address, (file, content_type) in FILES.items():
            app.router.add_get(address, _constant((PAGE / file).read_bytes(), content_type))
        description = json_line(openapi(self._recognition.session.artifact, self._limits))
        app.router.add_get("/openapi.json", _constant(description + b"\n", "application/json"))
        app.router.add_post("/v1/faces", self.faces)
        app.router.add_get("/v1/camera", self.camera, allow_head=False)
        app.router.add_get("/healthz", self.health)
        app.router.add_get("/metrics", self.metrics_text)

    async def faces(self, request: web.Request) -> web.Response:
        """The record of the picture in the body. It counts against the limits before its body is read."""
        self._rate.check(request.remote or "")
        with self._admission.admitted(expected_bytes(request, self._limits), self._batcher.seconds_to_empty):
            result = await self._batcher(await receive_picture(request, self._limits))
        self.metrics(result)
        body = json_line(timed_records()(result)) + b"\n"
        return web.Response(body=body, content_type="application/json")

    async def camera(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket for the frames of a camera."""
        self._rate.check(request.remote or "")
        if len(self._sockets) >= self._limits.cameras:
            raise BusyError(f"{len(self._sockets)} cameras are open already, which is the limit", 10)
        socket = open_socket(self._limits)
        self._sockets.add(socket)
        self.metrics.viewers = len(self._sockets)
        try:
            await socket.prepare(request)
            await Camera(self._limits, self._batcher, self._recognition.pipeline(), self.metrics).run(socket)
        finally:
            self._sockets.discard(socket)
            self.metrics.viewers = len(self._sockets)
        return socket

    async def health(self, _: web.Request) -> web.Response:
        """Status 200 while requests are answered, 503 if the model hangs or the service stops."""
        if self._stopping or self._batcher.stuck:
            return web.Response(status=503, text="the service stops\n" if self._stopping else "the model hangs\n")
        return web.Response(text="ready\n")

    async def metrics_text(self, _: web.Request) -> web.Response:
        """The metrics for Prometheus."""
        return web.Response(body=self.metrics.text(), headers={"Content-Type": TEXT_FORMAT})

    async def _running_batcher(self, _: web.Application) -> AsyncIterator[None]:
        self._batcher = Batcher(self._recognition, self.metrics.add_batch)
        yield
        await self._batcher.close()

    async def _close_sockets(self, _: web.Application) -> None:
        """Tell the cameras that the service stops. Pictures that came before are still answered."""
        self._stopping = True
        for socket in list(self._sockets):
            await socket.close(code=GOING_AWAY, message=b"the service stops")


def _constant(body: bytes, content_type: str) -> Callable[[web.Request], Any]:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return respond
