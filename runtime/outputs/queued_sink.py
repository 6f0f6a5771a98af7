"""Outputs in threads: each has a bounded queue, and every frame that it loses is counted and reported."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import sys
import threading
from collections.abc import Iterator

import numpy as np

from iern.runtime.errors import one_line
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.files import why_not_written
from iern.runtime.system.latency import counted

QUEUED_PICTURES = 8
"""Results that may wait for an output that needs pictures. Each holds a frame: 6 MB in full HD."""
QUEUED_RECORDS = 512
"""Results without pictures that may wait for an output of records."""
POLL_SECONDS = 0.2
"""Seconds between two checks, while the loop waits for room in a queue, whether the sink has failed."""


class QueuedSink:
    """A sink that runs another sink in a thread of its own, and keeps how many frames that lost and why it failed.

    With a live source the loop never waits: a result that finds the queue full is dropped. With files none is dropped.
    """

    def __init__(self, sink: Sink, name: str, live: bool, pictures: bool) -> None:
        """`name` is the output in messages. Without `pictures` the sink gets results whose image is black."""
        self.name, self.pictures = name, pictures
        self.dropped = 0
        """Results that the sink did not get, because it was too slow or had failed."""
        self.failure = ""
        """Why the sink failed before the loop ended. Empty if it did not."""
        self._sink, self._live = sink, live
        self._queue: queue.Queue[FrameResult | None] = queue.Queue(QUEUED_PICTURES if pictures else QUEUED_RECORDS)
        self._ending, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __call__(self, result: FrameResult) -> None:
        """Put the result into the queue."""
        if not self.pictures:
            blank = np.broadcast_to(np.uint8(0), result.frame.image.shape)  # the frame's size without its memory
            result = dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=blank))
        while not self.failure:
            try:
                self._queue.put(result, block=not self._live, timeout=POLL_SECONDS)
                return
            except queue.Full:
                if self._live:
                    if not self.dropped:
                        print(f"note: {self.name}: cannot keep up; frames are left out", flush=True)
                    break
        self.dropped += 1

    def finish(self, abandon: bool = False) -> None:
        """Wait until the sink has had all results. With `abandon` wait only for the one that it is working on."""
        if abandon:
            self._abandoned.set()
        self._ending.set()
        with contextlib.suppress(queue.Full):  # if the queue is full, the thread sees `_ending` after its next result
            self._queue.put_nowait(None)
        self._thread.join()

    @property
    def note(self) -> str:
        """How many frames were lost, in words. Empty if none was."""
        if self.failure:
            return f"{self.name}: ended early, {counted(self.dropped, 'frame')} not written: {self.failure}"
        if self.dropped:
            return f"{self.name}: left out {counted(self.dropped, 'frame')}, because it could not keep up"
        return ""

    def _work(self) -> None:
        while not self._abandoned.is_set():
            if self._ending.is_set() and self._queue.empty():
                return
            result = self._queue.get()
            if result is None:
                continue
            try:
                self._sink(result)
            except Exception as error:  # any error: the loop continues without this output
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        reason = why_not_written(error) if isinstance(error, OSError) else one_line(error)
        self.failure = reason or type(error).__name__
        with contextlib.suppress(queue.Empty):
            self.dropped += 1
            while self._queue.get_nowait():
                self.dropped += 1
        print(f"warning: {self.name}: {self.failure}; the loop continues without it", file=sys.stderr, flush=True)


@contextlib.contextmanager
def queued_sink(sink: Sink, name: str, live: bool, pictures: bool = False) -> Iterator[QueuedSink]:
    """Run `sink` in a thread until the block ends, then wait for it; after an error in the block, do not wait long."""
    queued = QueuedSink(sink, name, live, pictures)
    try:
        yield queued
    except BaseException:
        queued.finish(abandon=True)
        raise
    queued.finish()
    if queued.note:
        print(f"note: {queued.note}", flush=True)
