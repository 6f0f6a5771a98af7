"""The addresses for other programs, such as Home Assistant, Node-RED and Frigate: the faces, and the picture.

The picture is Motion JPEG, one JPEG after another in one response (multipart/x-mixed-replace). The faces are records of
docs/records.md, once or as server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from iern.runtime.outputs.records import json_line
from iern.runtime.serve.feed import LiveFeed, jpeg_of
from iern.runtime.serve.long_responses import refuse_if_crowded, send_parts

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

BOUNDARY = b"iern-frame"
"""Between two pictures. No header of a JPEG contains it."""
RECONNECT_MS = 2000
"""Milliseconds after which a browser connects again to the events."""
PICTURE_SECONDS = 5.0
"""Seconds to wait for the picture of the last frame."""


class ProgramRoutes:
    """The handlers, for one feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed

    def add_to(self, app: web.Application) -> None:
        """Register every address."""
        app.router.add_get("/faces.json", self.faces)
        app.router.add_get("/events", self.events, allow_head=False)
        app.router.add_get("/stream.mjpg", self.motion_jpeg, allow_head=False)
        app.router.add_get("/picture.jpg", self.picture, allow_head=False)

    async def faces(self, _: web.Request) -> web.Response:
        """The last frame's record, with "stalled" and "silence_seconds". 503 before the first frame."""
        record = self._feed.record
        if record is None:
            raise web.HTTPServiceUnavailable(text="no frame yet\n")
        silence = self._feed.seconds_since_last()
        state = {"stalled": self._feed.stalled, "silence_seconds": 0.0 if math.isnan(silence) else round(silence, 3)}
        return web.Response(body=json_line(record | state) + b"\n", content_type="application/json")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Every frame's record as an event. A slow listener misses frames."""
        refuse_if_crowded(self._feed)
        return await send_parts(request, _events(self._feed), "text/event-stream")

    async def motion_jpeg(self, request: web.Request) -> web.StreamResponse:
        """The live picture with everything drawn. A slow viewer misses pictures."""
        refuse_if_crowded(self._feed)
        content_type = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
        return await send_parts(request, _motion_jpeg(self._feed), content_type)

    async def picture(self, _: web.Request) -> web.Response:
        """The last frame with everything drawn, as one JPEG. 503 if there is none."""
        refuse_if_crowded(self._feed)
        try:
            jpeg = await asyncio.wait_for(_next_picture(self._feed), PICTURE_SECONDS)
        except asyncio.TimeoutError as error:
            raise web.HTTPServiceUnavailable(text="no frame yet\n") from error
        return web.Response(body=jpeg, content_type="image/jpeg")


async def _events(feed: LiveFeed) -> AsyncGenerator[bytes, None]:
    """Events as the HTML standard defines them. A comment when no frame comes finds a listener that has left."""
    yield b"retry: %d\n\n" % RECONNECT_MS
    async with contextlib.aclosing(feed.records()) as records:
        async for record in records:
            yield b": no new frame\n\n" if record is None else b"data: " + json_line(record) + b"\n\n"


async def _motion_jpeg(feed: LiveFeed) -> AsyncGenerator[bytes, None]:
    """The boundary ends each part, since some viewers show a picture only when they have read it."""
    yield b"--" + BOUNDARY + b"\r\n"
    async with contextlib.aclosing(_pictures(feed)) as pictures:
        async for jpeg in pictures:
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            yield head + jpeg + b"\r\n--" + BOUNDARY + b"\r\n"


async def _pictures(feed: LiveFeed) -> AsyncGenerator[bytes, None]:
    """The JPEG of each message that has one."""
    async with contextlib.aclosing(feed.messages()) as messages:
        async for message in messages:
            if jpeg := jpeg_of(message):
                yield jpeg


async def _next_picture(feed: LiveFeed) -> bytes:
    async with contextlib.aclosing(_pictures(feed)) as pictures:
        return await anext(pictures)
