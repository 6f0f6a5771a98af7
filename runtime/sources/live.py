"""Live sources: the latest frame of a camera or stream, which is reopened when it is lost, stalled, frozen or black."""

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
from iern.runtime.sources.capture import OpenCapture, error_without_url, read_frame
from iern.runtime.sources.frozen_frames import FrozenFrameDetector
from iern.runtime.sources.settings import LiveTimeouts
from iern.runtime.system.latency import counted

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a lost source is reopened, doubled after each failure: a dead camera then costs almost nothing."""

STABLE_AFTER = 10.0
"""Seconds. A connection that delivered frames for longer counts as good: after its loss the pauses start again."""

POLL_INTERVAL = 0.05
"""Seconds. Every wait checks this often, since `stop` in a signal handler cannot notify a condition."""

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for a read in progress when the source is closed. OpenCV cannot interrupt one."""

REMEDY = "check its cable, power and network, then start again"

logger = logging.getLogger(__name__)


class LiveSource(Source):
    """The latest frame of a camera or stream. Frames that the loop does not take in time are dropped.

    A device that is read too slowly queues frames and shows old ones, so a thread reads it at the device's own pace.
    That thread may block in a read. A second thread watches it, logs problems, and reopens the source.
    """

    live = True

    def __init__(
        self, opened: OpenCapture, name: str, connect: Callable[[], OpenCapture], timeouts: LiveTimeouts | None = None
    ) -> None:
        """`opened` is the open source. `connect` opens it again, and raises SourceError if it cannot."""
        fps = opened[0].get(cv2.CAP_PROP_FPS)
        super().__init__(name, fps if math.isfinite(fps) and 0 < fps <= 240 else 0.0)
        self._timeouts = timeouts or LiveTimeouts()
        self._connect = connect
        self._new_frame = threading.Condition()
        self._latest: Frame | None = None
        self._failure: Exception | None = None
        self._start = self._last_arrival = time.monotonic()
        self._frozen_detector = FrozenFrameDetector(self._timeouts.frozen, self._start)
        self._index = 0
        self._reconnecting = False
        self._problem = self._cause = ""
        self._reader = _Reader(lambda: opened, self._receive, name)
        self._abandoned: _Reader | None = None
        self._watcher = threading.Thread(target=self._watch, name=name, daemon=True)
        self._reader.start()
        self._watcher.start()
        atexit.register(self._wait_at_exit)  # if Python ends while a thread is inside OpenCV, the process aborts

    @property
    def state(self) -> State:
        """The state now. It is computed from the clock, so that a blocked thread cannot hide a problem."""
        now = time.monotonic()
        if self._stopped or self._failure is not None:
            return "ended"
        if self._reconnecting:
            return "reconnecting"
        if now - self._last_arrival >= self._timeouts.no_frames:
            return "stalled"
        if self._frozen_detector.is_frozen(now):
            return "black" if self._frozen_detector.black else "stalled"
        return "live"

    @property
    def problem(self) -> str:
        """What is wrong now, as text. It is also logged."""
        return self._problem

    @property
    def repeated(self) -> int:
        """Frames that were exactly equal to the one before."""
        return self._frozen_detector.repeated

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take_frame()) is not None:
            yield frame

    def _take_frame(self) -> Frame | None:
        """Wait for a new frame. Returns None after `stop`. Raises the error that ended the source."""
        with self._new_frame:
            while self._latest is None and self._failure is None and not self._stopped:
                self._new_frame.wait(0.1)  # bounded, since `stop` in a signal handler cannot notify
            frame, self._latest = self._latest, None
            if self._stopped:
                return None
            if frame is None and self._failure is not None:
                raise self._failure
            return frame

    def _receive(self, reader: _Reader, image: Image) -> None:
        """Take over an image. The reading thread calls this for each one."""
        now = time.monotonic()
        with self._new_frame:
            if reader is not self._reader or reader.cancelled:
                return  # the reader was cancelled during its read: the image is old
            if reader.frames == 1 and self._index:
                self._note_reconnect(now)
            self._update_segment(image)
            self._frozen_detector.update(image, now)
            self._last_arrival = now
            self.dropped += self._latest is not None
            self._latest = Frame(image, now - self._start, self._index, self.name, now, self._segment)
            self._index += 1
            self._new_frame.notify()

    def _note_reconnect(self, now: float) -> None:
        self.reconnects += 1
        self._segment += 1
        self._size = ()  # otherwise a new size would begin a second segment
        self._reconnecting = False
        self.note = f"{self.name}: reopened {counted(self.reconnects, 'time')}; the last reason: {self._cause}"
        logger.warning("%s: recovered after %.1f s", self.name, now - self._last_arrival)

    def _watch(self) -> None:
        """The watching thread: runs one reader after the other until `stop`, or until the source is given up."""
        try:
            self._run_readers()
        except Exception as error:  # the consumer of the frames gets any error, not this thread's log
            ours = isinstance(error, SourceError)
            with self._new_frame:
                self._failure = error if ours else SourceError(f"{self.name}: ended by {error_without_url(error)}")
                self._new_frame.notify()
        finally:
            self._reader.cancelled = True

    def _run_readers(self) -> None:
        pause = FIRST_PAUSE
        while problem := self._wait_for_problem(self._reader):
            if self._reader.duration >= STABLE_AFTER:
                pause = FIRST_PAUSE
            self._report(problem)
            if not self._reconnecting:  # attempts that fail afterwards are not the cause
                self._cause = problem
            self._reader.cancelled = True
            self._raise_if_given_up(problem)
            self._wait_for_end(self._reader, problem)
            self._reconnecting = True
            self._wait(lambda: False, pause)
            self._raise_if_given_up(problem)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._stopped:
                self._reader = _Reader(self._connect, self._receive, self.name)
                self._reader.start()

    def _wait_for_problem(self, reader: _Reader) -> str:
        """Wait until the reader or its frames have a problem, and return it. Empty after `stop`."""
        while not self._stopped:
            time.sleep(POLL_INTERVAL)
            now = time.monotonic()
            if reader.ended:
                return reader.failure or "the reading thread ended"
            idle = now - reader.last_active
            if idle >= (self._timeouts.no_frames if reader.frames else self._timeouts.blocked):
                return f"no frames for {idle:.0f} s" if reader.frames else "it does not open"
            if not reader.frames:
                continue
            frozen = self._frozen_detector.is_frozen(now)
            kind = "black" if self._frozen_detector.black else "equal"
            problem = f"{kind} frames for {self._timeouts.frozen:g} s"
            self._report(problem if frozen else "")
            if frozen and self._timeouts.give_up and self._frozen_detector.retry_due(now):
                self._frozen_detector.note_retry(now)
                return problem
        return ""

    def _wait_for_end(self, reader: _Reader, problem: str) -> None:
        """Wait until the thread has left OpenCV, since most devices can be opened only once.

        A thread that never returns is abandoned, but only one. While it is blocked, the next one is waited for, so
        that threads do not accumulate.
        """
        self._wait(lambda: reader.ended, self._timeouts.blocked)
        self._wait(lambda: reader.ended or self._abandoned is None or self._abandoned.ended, math.inf)
        self._raise_if_given_up(problem)
        if not reader.ended:
            self._abandoned = reader

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done` is true, for at most `seconds`, and no longer than until `stop` or the time to give up."""
        end = min(time.monotonic() + seconds, self._last_arrival + self._timeouts.give_up)
        while not self._stopped and not done() and (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL_INTERVAL, left))

    def _raise_if_given_up(self, problem: str) -> None:
        now, give_up = time.monotonic(), self._timeouts.give_up
        if self._stopped or now - self._last_arrival < give_up:
            return
        waited = f", not back within {give_up:g} s" if give_up else ""
        raise SourceError(
            f"{self.name}: lost after {self._index} frames ({self._last_arrival - self._start:.1f} s){waited}: "
            f"{problem}; {REMEDY}"
        )

    def _report(self, problem: str) -> None:
        """Log a problem once, until it changes."""
        if problem and problem != self._problem:
            logger.warning("%s: %s", self.name, problem)
        self._problem = problem

    def close(self) -> None:
        """Release the source. A read in progress is waited for, but not longer than CLOSE_TIMEOUT."""
        self._release(CLOSE_TIMEOUT)
        if self._reader.ended:
            atexit.unregister(self._wait_at_exit)

    def _wait_at_exit(self) -> None:
        """Wait for a read that is still in progress when Python ends."""
        self._release(self._timeouts.blocked)

    def _release(self, seconds: float) -> None:
        """Stop, and wait for a read in progress for at most `seconds`."""
        super().close()
        self._watcher.join()
        self._reader.join(seconds)


class _Reader:
    """One connection, on a thread of its own, which opens it, reads until it is lost or cancelled, and releases it."""

    def __init__(
        self, connect: Callable[[], OpenCapture], deliver: Callable[[_Reader, Image], None], name: str
    ) -> None:
        self.cancelled = False
        """Set by the owner: the reader reads and delivers no more."""
        self.failure = ""
        """What ended the reader, as text without any URL."""
        self.frames = 0
        self.started = self.last_active = time.monotonic()
        """`last_active`: the time of its last frame, or of its start."""
        self._connect = connect
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. The constructor does not, so that the owner knows the reader before its first frame."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, for at most `seconds`."""
        self._thread.join(seconds)

    @property
    def ended(self) -> bool:
        """Whether the thread has ended and the device is released."""
        return not self._thread.is_alive()

    @property
    def duration(self) -> float:
        """Seconds from the start to the last frame."""
        return self.last_active - self.started

    def _run(self) -> None:
        capture = None
        try:
            capture, image = self._connect()
            while not self.cancelled:
                self.last_active, self.frames = time.monotonic(), self.frames + 1
                self._deliver(self, image)
                following = read_frame(capture)
                if following is None:
                    self.failure = "the connection was lost"
                    return
                image = following
        except Exception as error:  # no error may end the source or stay unreported
            self.failure = error_without_url(error).removeprefix(f"{self._thread.name}: ")
        finally:
            if capture is not None:
                capture.release()
