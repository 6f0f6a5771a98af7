"""Live sources: the latest frame of a camera or stream, which is opened anew whenever it is lost, stalled or frozen."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

import cv2

from iern.runtime.errors import SourceError
from iern.runtime.imaging.images import Image
from iern.runtime.sources.base import Frame, Source, State
from iern.runtime.sources.capture import OpenCapture, in_words, read
from iern.runtime.sources.frozen_frames import FrozenFrameDetector
from iern.runtime.sources.settings import LiveTimeouts
from iern.runtime.system.latency import counted

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a lost source is opened anew: doubled after each failure, so that a dead camera costs nothing."""

STEADY = 10.0
"""Seconds of frames after which a connection counts as good, and its loss as the first."""

TICK = 0.05
"""Seconds between two looks; every wait is made of such, since `stop` in a signal handler cannot notify."""

REMEDY = "check its cable, power and network, then start again"

logger = logging.getLogger(__name__)


class LiveSource(Source):
    """The latest frame of a camera or stream: a thread of its own reads, and what nobody took in time is dropped.

    A device that is read too slowly queues frames and shows the past; here it is always read at its own pace. A
    second thread watches the first, which may be blocked in a read: it says what is wrong, and opens the source anew.
    """

    live = True

    def __init__(
        self, opened: OpenCapture, name: str, connect: Callable[[], OpenCapture], patience: LiveTimeouts | None = None
    ) -> None:
        """`opened` is the source as it is now; `connect` opens it again, and raises SourceError where it cannot."""
        fps = opened[0].get(cv2.CAP_PROP_FPS)
        super().__init__(name, fps if math.isfinite(fps) and 0 < fps <= 240 else 0.0)
        self._patience = patience or LiveTimeouts()
        self._connect = connect
        self._arrival = threading.Condition()
        self._latest: Frame | None = None
        self._failure: Exception | None = None
        self._start = self._arrived = time.monotonic()
        self._freshness = FrozenFrameDetector(self._patience.same, self._start)
        self._index = 0
        self._reconnecting = False
        self._trouble = self._cause = ""
        self._reader = _Reader(lambda: opened, self._hand_over, name)
        self._stuck: _Reader | None = None
        self._thread = threading.Thread(target=self._watch_over, name=name, daemon=True)
        self._reader.start()
        self._thread.start()
        atexit.register(self.close)  # Python ending under a thread that is inside OpenCV aborts the process

    @property
    def state(self) -> State:
        """What is to be said of it now; told by the clock, so that a blocked thread cannot hide it."""
        now = time.monotonic()
        if self._stopped or self._failure is not None:
            return "ended"
        if self._reconnecting:
            return "reconnecting"
        if now - self._arrived >= self._patience.silent:
            return "stalled"
        if self._freshness.unwell(now):
            return "black" if self._freshness.black else "stalled"
        return "live"

    @property
    def trouble(self) -> str:
        """What is wrong now, in words; a line of the log says it as well."""
        return self._trouble

    @property
    def repeated(self) -> int:
        """Frames that equalled the one before to the last bit."""
        return self._freshness.repeated

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        """Wait for a frame nobody has had yet; None after `stop`. Raises what ended the source."""
        with self._arrival:
            while self._latest is None and self._failure is None and not self._stopped:
                self._arrival.wait(0.1)  # bounded, since `stop` in a signal handler cannot notify
            frame, self._latest = self._latest, None
            if self._stopped:
                return None
            if frame is None and self._failure is not None:
                raise self._failure
            return frame

    def _hand_over(self, reader: _Reader, image: Image) -> None:
        """Called by the reading thread with each picture."""
        now = time.monotonic()
        with self._arrival:
            if reader is not self._reader or reader.released:
                return  # it was given up while it read: what it has is old
            if reader.frames == 1 and self._index:
                self._came_back(now)
            self._note_size(image)
            self._freshness.see(image, now)
            self._arrived = now
            self.dropped += self._latest is not None
            self._latest = Frame(image, now - self._start, self._index, self.name, now, self._segment)
            self._index += 1
            self._arrival.notify()

    def _came_back(self, now: float) -> None:
        self.reconnects += 1
        self._segment += 1
        self._size = ()  # a new size is no second reason
        self._reconnecting = False
        self.note = f"{self.name}: opened anew {counted(self.reconnects, 'time')}; the last time: {self._cause}"
        logger.warning("%s: is back after %.1f s", self.name, now - self._arrived)

    def _watch_over(self) -> None:
        """The watching thread: one reader after the other, until stopped or given up."""
        try:
            self._keep_reading()
        except Exception as error:  # whatever it is belongs to the reader of the frames, not to this thread's log
            ours = isinstance(error, SourceError)
            with self._arrival:
                self._failure = error if ours else SourceError(f"{self.name}: given up after {in_words(error)}")
                self._arrival.notify()
        finally:
            self._reader.released = True

    def _keep_reading(self) -> None:
        pause = FIRST_PAUSE
        while trouble := self._watch(self._reader):
            if self._reader.lasted >= STEADY:
                pause = FIRST_PAUSE
            self._say(trouble)
            if not self._reconnecting:  # the failed attempts that follow are no cause
                self._cause = trouble
            self._reader.released = True
            self._check_not_given_up(trouble)
            self._await_release(self._reader, trouble)
            self._reconnecting = True
            self._until(lambda: False, pause)
            self._check_not_given_up(trouble)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._stopped:
                self._reader = _Reader(self._connect, self._hand_over, self.name)
                self._reader.start()

    def _watch(self, reader: _Reader) -> str:
        """Wait until something is wrong with the reader or its pictures, and say what; empty after `stop`."""
        while not self._stopped:
            time.sleep(TICK)
            now = time.monotonic()
            if reader.ended:
                return reader.failure or "the reading thread ended"
            if now - reader.heard >= (self._patience.silent if reader.frames else self._patience.stuck):
                return f"no frames for {now - reader.heard:.0f} s" if reader.frames else "it does not open"
            if not reader.frames:
                continue
            unwell = self._freshness.unwell(now)
            trouble = ("black" if self._freshness.black else "the same") + f" pictures for {self._patience.same:g} s"
            self._say(trouble if unwell else "")
            if unwell and self._patience.give_up and self._freshness.retry_due(now):
                self._freshness.retried(now)
                return trouble
        return ""

    def _await_release(self, reader: _Reader, trouble: str) -> None:
        """Wait until the thread is out of OpenCV, for most devices open once only. One that never comes out is left
        behind, but only one: while it is stuck, a second is waited for, so that threads cannot pile up.
        """
        self._until(lambda: reader.ended, self._patience.stuck)
        self._until(lambda: reader.ended or self._stuck is None or self._stuck.ended, math.inf)
        self._check_not_given_up(trouble)
        if not reader.ended:
            self._stuck = reader

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait for that, for so long, for `stop`, or for the time to give up."""
        end = min(time.monotonic() + seconds, self._arrived + self._patience.give_up)
        while not self._stopped and not done() and (left := end - time.monotonic()) > 0:
            time.sleep(min(TICK, left))

    def _check_not_given_up(self, trouble: str) -> None:
        now = time.monotonic()
        if self._stopped or now - self._arrived < self._patience.give_up:
            return
        waited = f", not back within {self._patience.give_up:g} s" if self._patience.give_up else ""
        raise SourceError(
            f"{self.name}: lost after {self._index} frames ({self._arrived - self._start:.1f} s){waited}: "
            f"{trouble}; {REMEDY}"
        )

    def _say(self, trouble: str) -> None:
        """Log what is wrong, once until it changes."""
        if trouble and trouble != self._trouble:
            logger.warning("%s: %s", self.name, trouble)
        self._trouble = trouble

    def close(self) -> None:
        """Waits for a read under way: seconds where the device has gone silent, until its time-out."""
        super().close()
        self._thread.join()
        self._reader.join(self._patience.stuck)
        atexit.unregister(self.close)


class _Reader:
    """One connection, on a thread of its own: opens it, reads until it is lost or released, and closes it there."""

    def __init__(
        self, connect: Callable[[], OpenCapture], deliver: Callable[[_Reader, Image], None], name: str
    ) -> None:
        self.released = False
        """Set from outside: read no further, deliver nothing more."""
        self.failure = ""
        """What ended it, in words without any URL."""
        self.frames = 0
        self.started = self.heard = time.monotonic()
        """`heard`: when it last gave a sign of life."""
        self._connect = connect
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; only now, so that its owner knows it before its first picture."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its end, for so long at most."""
        self._thread.join(seconds)

    @property
    def ended(self) -> bool:
        """Whether its thread is over and the device is released."""
        return not self._thread.is_alive()

    @property
    def lasted(self) -> float:
        """Seconds from its start to its last picture."""
        return self.heard - self.started

    def _run(self) -> None:
        capture = None
        try:
            capture, image = self._connect()
            while not self.released:
                self.heard, self.frames = time.monotonic(), self.frames + 1
                self._deliver(self, image)
                following = read(capture)
                if following is None:
                    self.failure = "the connection broke off"
                    return
                image = following
        except Exception as error:  # of whatever kind: it must not end the source, nor go unsaid
            self.failure = in_words(error).removeprefix(f"{self._thread.name}: ")
        finally:
            if capture is not None:
                capture.release()
