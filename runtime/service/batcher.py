"""Joins the requests that wait into batches. One thread runs them, so the server answers others meanwhile.

A request never waits for others to come: if the thread is free, it is run alone. While the thread works, requests
gather, and the next batch takes as many of them as fit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from iern.runtime.errors import SessionError, one_line
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.service.recognition import Request

BATCH_PICTURES = 16
"""Most pictures of a batch."""
BATCH_PIXELS = 4_000_000
"""Most pixels of a batch, unless its first picture alone has more: 13 frames of 640x480.

All pictures of a batch are answered together, and large ones take a second each.
"""
STUCK_AFTER = 30.0
"""Seconds in one batch after which the thread counts as stuck. Only a GPU that never returns takes so long."""

Recognize = Callable[[Sequence[Request]], "list[FrameResult | Exception]"]


class Batcher:
    """`await batcher(request)` -> its FrameResult. Make it and call it in the server's event loop."""

    def __init__(self, recognize: Recognize, on_batch: Callable[[int], None] = lambda pictures: None) -> None:
        """`recognize` runs in a thread of its own. `on_batch` gets the number of pictures of each batch."""
        self._recognize = recognize
        self._on_batch = on_batch
        self._waiting: deque[tuple[Request, asyncio.Future[FrameResult]]] = deque()
        self._wake = asyncio.Event()
        self._began = float("nan")
        self._picture_seconds = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recognition")
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def __call__(self, request: Request) -> FrameResult:
        """Wait until the request is answered. Raises its error. A caller that is cancelled leaves the queue."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._wake.set()
        return await future

    @property
    def waiting(self) -> int:
        """Requests that no batch has taken yet."""
        return len(self._waiting)

    @property
    def stuck(self) -> bool:
        """Whether the current batch has taken so long that it will probably never end."""
        return time.monotonic() - self._began > STUCK_AFTER

    @property
    def seconds_to_empty(self) -> float:
        """How long the requests that wait will take, as far as the last batches tell."""
        return self._picture_seconds * (1 + len(self._waiting))

    async def close(self) -> None:
        """Stop. Requests that still wait get a SessionError."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._thread.shutdown(wait=not self.stuck)
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(SessionError("the service stops"))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                self._wake.clear()
                continue
            self._on_batch(len(batch))
            self._began = time.monotonic()
            results = await self._results([request for request, _ in batch])
            self._picture_seconds = (time.monotonic() - self._began) / len(batch)
            self._began = float("nan")
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # its caller has left
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _results(self, requests: Sequence[Request]) -> list[FrameResult | Exception]:
        """Run a batch in the thread. Whatever it raises is the answer to all its requests, and the next batch runs."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._recognize, requests)
        except Exception as error:
            failure = SessionError(f"{len(requests)} pictures failed together: {one_line(error)}")
            return [failure] * len(requests)

    def _take(self) -> list[tuple[Request, asyncio.Future[FrameResult]]]:
        """Remove the next batch from the queue. It is empty if nobody waits."""
        batch: list[tuple[Request, asyncio.Future[FrameResult]]] = []
        pixels = 0
        while self._waiting and len(batch) < BATCH_PICTURES:
            request, future = self._waiting[0]
            if batch and pixels + request.pixels > BATCH_PIXELS:
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((request, future))
                pixels += request.pixels
        return batch
