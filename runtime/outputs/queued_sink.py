"""Outputs off the loop's path: a thread for each, a bounded queue before it, and nothing lost in silence."""

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
from iern.runtime.system.latency import counted

PICTURES = 8
"""Views that wait before a recording at most: each holds a frame, 6 MB of full HD."""
RECORDS = 512
"""Views without their picture that wait before records at most."""
GLANCE = 0.2
"""Seconds after which a loop that waits for room looks whether there is still somebody who makes it."""


class QueuedSink:
    """A sink that another sink works for, in a thread of its own. What it lost is counted, and why it failed is kept.

    Of a live source it never makes the loop wait: what finds the queue full is dropped. Of files it drops nothing.
    """

    def __init__(self, sink: Sink, what: str, live: bool, pictures: bool) -> None:
        """`what` names the output in messages; without `pictures` the sink gets views whose image is empty."""
        self.what = what
        self.dropped = 0
        """Views that the sink did not get, since it was too slow or had failed."""
        self.failure = ""
        """What ended the sink before the loop; empty where nothing did."""
        self._sink, self._live, self._pictures = sink, live, pictures
        self._queue: queue.Queue[FrameResult | None] = queue.Queue(PICTURES if pictures else RECORDS)
        self._ending, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=what, daemon=True)
        self._thread.start()

    def __call__(self, view: FrameResult) -> None:
        """Hand the view over."""
        if not self._pictures:
            view = dataclasses.replace(view, frame=dataclasses.replace(view.frame, image=NO_IMAGE))
        while not self.failure:
            try:
                self._queue.put(view, block=not self._live, timeout=GLANCE)
                return
            except queue.Full:
                if self._live:
                    if not self.dropped:
                        print(f"note: {self.what}: cannot keep up; frames are left out", flush=True)
                    break
        self.dropped += 1

    def finish(self, in_a_hurry: bool = False) -> None:
        """Wait until the sink has had all views; in a hurry, only until the one that it is at."""
        if in_a_hurry:
            self._abandoned.set()
        self._ending.set()
        with contextlib.suppress(queue.Full):  # a thread that has views to take looks for the end by itself
            self._queue.put_nowait(None)
        self._thread.join()

    @property
    def note(self) -> str:
        """What there is to say at the end; empty where nothing was lost."""
        if self.failure:
            return f"{self.what}: ended early ({self.failure}), {counted(self.dropped, 'frame')} not written"
        if self.dropped:
            return f"{self.what}: left out {counted(self.dropped, 'frame')}, since it could not keep up"
        return ""

    def _work(self) -> None:
        while not self._abandoned.is_set():
            if self._ending.is_set() and self._queue.empty():
                return
            view = self._queue.get()
            if view is None:
                continue
            try:
                self._sink(view)
            except Exception as error:  # whatever it is: the loop goes on without this output, and says so
                self._fail(error)
                return

    def _fail(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        self.failure = reason or type(error).__name__
        with contextlib.suppress(queue.Empty):
            self.dropped += 1
            while self._queue.get_nowait():
                self.dropped += 1
        print(f"warning: {self.what}: {self.failure}; the loop goes on without it", file=sys.stderr, flush=True)


NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


@contextlib.contextmanager
def queued_sink(sink: Sink, what: str, live: bool, pictures: bool = False) -> Iterator[QueuedSink]:
    """Let `sink` work in a thread until the block ends, and then wait for it: an error of the loop's ends it soon."""
    background = QueuedSink(sink, what, live, pictures)
    try:
        yield background
    except BaseException:
        background.finish(in_a_hurry=True)
        raise
    background.finish()
    if background.note:
        print(f"note: {background.note}", flush=True)
