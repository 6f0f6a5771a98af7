"""The latest view on its way to everybody who watches: encoded once, off the loop's thread, and only while watched.

A message is two big-endian 32-bit lengths, then so many bytes of JSON and so many of JPEG. The JSON is the frame's
record (`iern.runtime.outputs.records.record`) with "frames" and "dropped" until now, "clock" (seconds of the server's
clock) and, where the picture could not be made, "problem".
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2

from iern.runtime.errors import one_line
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import record

PACE = 1 / 25
"""Seconds between pictures at least: a loop that runs through a file must not spend its cores on JPEG."""
REPEAT = 5.0
"""Seconds after which the last message goes out again, so that proxies keep the line and a dead one is found."""
LARGEST = (1280, 720)
"""A larger picture is sent smaller."""
QUALITY = 80
"""Of JPEG, out of 100."""

Picture = Callable[[FrameResult], Image]
"""Makes what is shown of a view, (H, W, 3) uint8 BGR."""


class Feed:
    """A sink for the loop's thread, and an asynchronous stream of messages for each watcher."""

    def __init__(self, picture: Picture) -> None:
        """To be made in the server's event loop."""
        self.frames = 0
        self.last = float("nan")
        """`time.monotonic()` at the last view."""
        self.watchers = 0
        self._picture = picture
        self._view: FrameResult | None = None
        self._message = b""
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="page encoder")
        self._publisher = self._loop.create_task(self._publish())

    def __call__(self, view: FrameResult) -> None:
        """The sink: keeps the view, and wakes the encoder where somebody watches."""
        self._view = view
        self.frames += 1
        self.last = time.monotonic()
        if self.watchers:
            self._loop.call_soon_threadsafe(self._wanted.set)

    def silence(self) -> float:
        """Seconds since the last view; NaN before the first."""
        return time.monotonic() - self.last

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """The newest message each time one is asked for; what came in between is the watcher's loss, and nobody's wait.

        To be closed (`contextlib.aclosing`), so that the watcher is no longer counted.
        """
        self.watchers += 1
        self._wanted.set()  # the view at hand, though the source may be silent
        seen = b""
        try:
            while True:
                if self._message is seen:
                    await _within(REPEAT, self._news)
                seen = self._message
                if seen:
                    yield seen
        finally:
            self.watchers -= 1
            if not self.watchers:
                self._message = b""  # whoever comes in an hour is not to see this hour

    async def close(self) -> None:
        """Ends the encoder."""
        self._publisher.cancel()
        await asyncio.wait([self._publisher])
        self._encoder.shutdown()

    async def _publish(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._view is None or not self.watchers:
                continue
            began = time.monotonic()
            message = await self._loop.run_in_executor(self._encoder, self._encode, self._view)
            if self.watchers:
                self._message = message
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(max(0.0, began + PACE - time.monotonic()))

    def _encode(self, view: FrameResult) -> bytes:
        """The encoder's thread. A picture that cannot be made is said on the page, and does not end the feed."""
        counts = {"frames": self.frames, "dropped": view.dropped, "clock": round(time.monotonic(), 3)}
        try:
            about = record(view.frame, view.faces, view.latency)
            return _message(about | counts, _jpeg(self._picture(view)))
        except Exception as error:  # whatever it is, the next frame may be well
            return _message({"problem": f"this frame cannot be shown: {one_line(error)}"} | counts, b"")


def _message(about: dict[str, Any], jpeg: bytes) -> bytes:
    text = json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
    return struct.pack("!II", len(text), len(jpeg)) + text + jpeg


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    scale = min(LARGEST[0] / width, LARGEST[1] / height)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer than that."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
