"""A camera at the other end of a WebSocket: encoded frames come, records go back, and the newest frame wins.

The faces are followed from frame to frame, as in the loop. A frame that comes while an earlier one still waits replaces
it, so an answer is never of an old picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from iern.runtime.errors import one_line
from iern.runtime.faces.record import JsonRecord
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import json_line, timed_records
from iern.runtime.service.batcher import Batcher
from iern.runtime.service.limits import Limits
from iern.runtime.service.recognition import Request
from iern.runtime.service.upload import checked_picture

if TYPE_CHECKING:
    from aiohttp import WSMsgType, web

    from iern.runtime.faces.pipeline import FacePipeline
else:
    web = importlib.import_module("aiohttp.web")
    WSMsgType = importlib.import_module("aiohttp").WSMsgType

FRAME_BYTES = 2_000_000
"""Largest frame of a camera, unless pictures must be smaller."""
SEND_SECONDS = 10.0
"""Seconds after which a camera that does not read its answers is disconnected."""
HEARTBEAT_SECONDS = 20.0
"""Seconds between two pings. A camera that answers none is gone."""


class Camera:
    """One open WebSocket. `await camera.run(socket)` returns when the other end leaves."""

    def __init__(
        self, limits: Limits, batcher: Batcher, pipeline: FacePipeline, on_result: Callable[[FrameResult, int], None]
    ) -> None:
        """`on_result` gets every answered frame, and the number of frames that were dropped since the one before."""
        self._limits = limits
        self._batcher = batcher
        self._pipeline = pipeline
        self._on_result = on_result
        self._opened = time.monotonic()
        self._record = timed_records()
        self._came = self._dropped = self._counted = 0
        self._newest: tuple[int, bytes, float] | None = None
        self._arrival = asyncio.Event()

    async def run(self, socket: web.WebSocketResponse) -> None:
        """Answer frames until the other end closes the socket or stops reading."""
        answering = asyncio.ensure_future(self._answer_frames(socket))
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY:
                    self._keep(message.data)
                else:
                    await _send(socket, {"error": "expected a binary message with one JPEG, PNG or WebP"})
        finally:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, asyncio.TimeoutError):
                await answering

    def _keep(self, data: bytes) -> None:
        """Keep the newest frame in place of an earlier one that still waits."""
        self._dropped += self._newest is not None
        self._newest = self._came, data, time.monotonic()
        self._came += 1
        self._arrival.set()

    async def _answer_frames(self, socket: web.WebSocketResponse) -> None:
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            if self._newest is None:
                continue
            (index, data, arrived), self._newest = self._newest, None
            try:
                await _send(socket, await self._answer(index, data, arrived))
            except (ConnectionError, asyncio.TimeoutError):
                await socket.close(message=b"the answers were not read")
                return

    async def _answer(self, index: int, data: bytes, arrived: float) -> JsonRecord:
        """The record of a frame, or its error with its number: the next frame may succeed."""
        try:
            request = checked_picture(data, "camera", self._limits)
            result = await self._batcher(self._as_frame(request, index, arrived))
        except web.HTTPException as refusal:
            return {"error": refusal.text, "frame": index}
        except Exception as error:
            return {"error": one_line(error), "frame": index}
        self._on_result(result, self._dropped - self._counted)
        self._counted = self._dropped
        return self._record(result) | {"dropped": self._dropped}

    def _as_frame(self, request: Request, index: int, arrived: float) -> Request:
        seconds = arrived - self._opened
        return dataclasses.replace(request, index=index, arrived=arrived, seconds=seconds, pipeline=self._pipeline)


def open_socket(limits: Limits) -> web.WebSocketResponse:
    """A WebSocket that takes frames of limited size."""
    largest = min(limits.bytes, FRAME_BYTES)
    return web.WebSocketResponse(max_msg_size=largest, heartbeat=HEARTBEAT_SECONDS, compress=False)


async def _send(socket: web.WebSocketResponse, record: JsonRecord) -> None:
    await asyncio.wait_for(socket.send_str(json_line(record).decode()), SEND_SECONDS)
