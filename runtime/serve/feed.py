"""Sends the latest result to all viewers: encoded once, outside the loop's thread, and only if there are viewers.

A message is two big-endian 32-bit lengths, then JSON of the first length and a JPEG of the second. The JSON is the
frame's record (`iern.runtime.outputs.records.json_record`) with "frames" and "dropped" (counts until now) and "clock"
(seconds of the server's clock). If the picture could not be made, the JSON has "problem" and the JPEG is empty.

Of several sources the feed takes every frame, whose records it gives to programs, and grids, which are the pictures.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2

from iern.runtime.errors import one_line
from iern.runtime.faces.record import JsonRecord
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import json_record

SHORTEST_INTERVAL = 1 / 25
"""Least seconds between two pictures. A loop that runs through a file must not spend its cores on JPEG."""
REPEAT_AFTER = 5.0
"""Seconds after which the last message is sent again, so that proxies keep the connection and a dead one is found."""
LARGEST = (1280, 720)
"""Largest width and height that are sent. A larger picture is shrunk."""
JPEG_QUALITY = 80
"""Out of 100."""

STALLED_SECONDS = 2.0
"""Seconds without a result after which the loop counts as stalled, unless its usual interval is long."""
STALLED_INTERVALS = 3.0
"""Usual intervals without a result after which a slow loop counts as stalled."""
FIRST_SECONDS = 10.0
"""Seconds until the second result, before which no interval is known. The first results may take long."""
KEPT_INTERVALS = 15
"""The usual interval is the median of the last ones, so that a single pause does not change it."""

RenderPicture = Callable[[FrameResult], Image]
"""Makes the picture that viewers see, (H, W, 3) uint8 BGR."""


class LiveFeed:
    """A sink for the loop's thread, and an asynchronous stream for each viewer (messages) or listener (records)."""

    def __init__(self, render: RenderPicture, clock: Callable[[], float] = time.monotonic) -> None:
        """Must be called in the server's event loop. `clock` returns seconds."""
        self.frames = 0
        self.viewers = 0
        self.listeners = 0
        self._render = render
        self._clock = clock
        self._intervals: deque[float] = deque(maxlen=KEPT_INTERVALS)
        self._last_time = float("nan")
        self._result: FrameResult | None = None
        """The last picture."""
        self._newest: dict[str, FrameResult] = {}
        """Source -> its last frame."""
        self._message = b""
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._published = asyncio.Event()
        self._came = asyncio.Event()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="page encoder")
        self._publisher = self._loop.create_task(self._publish())

    def __call__(self, result: FrameResult) -> None:
        """Keep the result, and wake the encoder if there are viewers."""
        if not result.frame.source:
            self._result = result
        if not result.tiles:
            self._newest[result.frame.source] = result
            now = self._clock()
            if self.frames:
                self._intervals.append(now - self._last_time)
            self.frames += 1
            self._last_time = now
        if self.viewers or self.listeners:
            self._loop.call_soon_threadsafe(self._wake)

    def show_again(self) -> None:
        """Make the picture of the last result again, because it would look different. Call it in the event loop."""
        if self.viewers:
            self._wanted.set()

    def seconds_since_last(self) -> float:
        """Seconds since the last result. NaN before the first."""
        return self._clock() - self._last_time

    @property
    def stalled(self) -> bool:
        """Whether results have stopped: none came for STALLED_SECONDS, or for STALLED_INTERVALS if that is longer.

        True before the first result.
        """
        intervals = list(self._intervals)  # the loop's thread may append meanwhile
        allowed = max(STALLED_SECONDS, STALLED_INTERVALS * statistics.median(intervals)) if intervals else FIRST_SECONDS
        return not self.seconds_since_last() < allowed  # NaN before the first result

    @property
    def record(self) -> JsonRecord | None:
        """The last frame's record with "frames" and "dropped". None before the first frame.

        Of several sources it has the last record of each, in "sources".
        """
        newest = list(self._newest.values())
        if not newest:
            return None
        if not newest[0].frame.source:
            return self._record_of(newest[0])
        dropped = sum(result.dropped for result in newest)
        return {"sources": [json_record(result) for result in newest], "frames": self.frames, "dropped": dropped}

    async def records(self) -> AsyncGenerator[JsonRecord | None, None]:
        """Yield the newest record of each source each time, and None if no frame came for REPEAT_AFTER seconds.

        No picture is made for it. Close the generator (`contextlib.aclosing`), so that the listener is not counted.
        """
        self.listeners += 1
        sent: dict[str, FrameResult] = {}

        def unsent() -> dict[str, FrameResult]:
            return {name: result for name, result in list(self._newest.items()) if sent.get(name) is not result}

        try:
            while True:
                if not unsent():
                    await _wait_for_event(self._came, REPEAT_AFTER)
                # Kept before a record is sent: newer frames may come meanwhile, and the last of them must follow.
                newest = unsent()
                sent |= newest
                if not newest:
                    yield None
                for result in newest.values():
                    yield self._record_of(result)
                await asyncio.sleep(SHORTEST_INTERVAL)
        finally:
            self.listeners -= 1

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield the newest message each time. A slow viewer misses messages, and nothing waits for it.

        Close the generator (`contextlib.aclosing`), so that the viewer is no longer counted.
        """
        self.viewers += 1
        self._wanted.set()  # send the last result at once, even if the source is silent
        sent = b""
        try:
            while True:
                if self._message is sent:
                    await _wait_for_event(self._published, REPEAT_AFTER)
                sent = self._message
                if sent:
                    yield sent
        finally:
            self.viewers -= 1
            if not self.viewers:
                self._message = b""  # a viewer who comes later must not see an old picture first

    async def close(self) -> None:
        """Stop the encoder."""
        self._publisher.cancel()
        await asyncio.wait([self._publisher])
        self._encoder.shutdown()

    def _wake(self) -> None:
        """Start the encoder if there are viewers, and wake the listeners."""
        if self.viewers:
            self._wanted.set()
        self._came.set()
        self._came = asyncio.Event()

    def _record_of(self, result: FrameResult) -> JsonRecord:
        return json_record(result) | self._counts(result)

    def _counts(self, result: FrameResult) -> dict[str, int]:
        return {"frames": self.frames, "dropped": result.dropped}

    async def _publish(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._result is None or not self.viewers:
                continue
            began = time.monotonic()
            message = await self._loop.run_in_executor(self._encoder, self._encode, self._result)
            if self.viewers:
                self._message = message
                self._published.set()
                self._published = asyncio.Event()
            await asyncio.sleep(max(0.0, began + SHORTEST_INTERVAL - time.monotonic()))

    def _encode(self, result: FrameResult) -> bytes:
        """The work of the encoder's thread. If a picture cannot be made, the page shows why, and the feed continues."""
        counts = self._counts(result) | {"clock": round(time.monotonic(), 3)}
        try:
            return _message(json_record(result) | counts, _jpeg(self._render(result)))
        except Exception as error:  # any error: the next frame may succeed
            return _message({"problem": f"this frame cannot be shown: {one_line(error)}"} | counts, b"")


def jpeg_of(message: bytes) -> bytes:
    """The picture of a message. Empty if it could not be made."""
    text, jpeg = struct.unpack_from("!II", message)
    return message[8 + text : 8 + text + jpeg]


def _message(values: dict[str, Any], jpeg: bytes) -> bytes:
    text = json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    return struct.pack("!II", len(text), len(jpeg)) + text + jpeg


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    scale = min(LARGEST[0] / width, LARGEST[1] / height)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


async def _wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but at most for `seconds`."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
