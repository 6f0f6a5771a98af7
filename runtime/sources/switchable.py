"""A source that viewers of the page can switch between the sources that the operator allowed."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from iern.runtime.errors import IernError
from iern.runtime.sources.base import Frame, Source, State
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.streams import spec_without_credentials

POLL_INTERVAL = 0.05
"""Seconds between two checks whether the source was stopped or replaced."""
RELEASE_TIMEOUT = 30.0
"""Seconds to wait until the loop has taken the last frame of a replaced source."""

logger = logging.getLogger(__name__)


class SwitchableSource(Source):
    """Plays one of several sources. When another takes over, time and index continue, in a new segment.

    It is always live: a video plays at its own speed at most. When a selected source ends, the first one takes over
    again. The end of the first one is the end.
    """

    live = True

    def __init__(self, first: Source, spec: str, others: Sequence[str], settings: SourceSettings) -> None:
        """`first` is the open source of `spec`. The `others` are opened, with `settings`, when they are selected."""
        super().__init__(first.name, fps=0.0)
        self.details = first.details
        self._specs = display_names([spec, *others])
        self._first_name = self.selected = next(iter(self._specs))
        """`selected`: the one of `names` that is played, or being opened."""
        self._settings = settings
        self._current = self._next = first
        self._open_sources = {first: self._first_name}
        self._lock = threading.Lock()  # two threads may want to open the same camera, which can be opened only once

    @property
    def names(self) -> list[str]:
        """The names of the sources, without credentials."""
        return list(self._specs)

    def select(self, name: str) -> None:
        """Switch to one of `names`. Only one thread at a time may call this.

        Raises SourceError, and changes nothing, if the source does not open.
        """
        with self._lock:
            before, old = self.selected, self._current
            if name == before:
                return
            self.selected = name
            try:
                new = self._open(name)
            except BaseException:
                self.selected = before
                raise
        old.stop()
        end = time.monotonic() + RELEASE_TIMEOUT
        while self._current is old and not (self._stopped or self._finished) and time.monotonic() < end:
            time.sleep(POLL_INTERVAL)
        if self._current is not old:  # not earlier, since the loop's thread may have been reading until now
            self._close(old)
        elif self._stopped or self._finished:
            new.close()

    def _open(self, name: str) -> Source:
        """Open the source of that name as the next one."""
        source = open_source(self._specs[name], self._settings)
        self._open_sources[source] = name
        self._next, self.selected = source, name
        return source

    def _close(self, old: Source) -> None:
        del self._open_sources[old]
        old.close()

    def __iter__(self) -> Iterator[Frame]:
        index = segment = dropped = reconnects = 0
        start: float | None = None
        while True:
            source, first_index, first_segment = self._current, index, segment
            for frame in self._play(source):
                start = frame.captured if start is None else start
                index, segment = first_index + frame.index, first_segment + frame.segment
                self.dropped, self.reconnects = dropped + source.dropped, reconnects + source.reconnects
                yield dataclasses.replace(frame, time=frame.captured - start, index=index, segment=segment)
            if not self._switch():
                return
            index, segment, dropped, reconnects = index + 1, segment + 1, self.dropped, self.reconnects

    def _play(self, source: Source) -> Iterator[Frame]:
        """Yield the frames of one source, a video's at their own time. An error of a replaced source is ignored."""
        start = time.monotonic()
        try:
            for frame in source:
                while not source.live and (left := start + frame.time - time.monotonic()) > 0 and not source.stopped:
                    time.sleep(min(left, POLL_INTERVAL))
                if source.stopped:
                    return
                yield frame if source.live else dataclasses.replace(frame, captured=time.monotonic())
        except IernError:
            if self._next is source:
                raise

    def _switch(self) -> bool:
        """Switch to the selected source or, after the end of a selected one, to the first. False if all has ended."""
        with self._lock:
            ended = self._current
            if self._next is ended and self._open_sources[ended] != self._first_name and not self._stopped:
                first = self._open(self._first_name)
                logger.warning("%s: has ended; back to %s", ended.name, first.name)
                self._close(ended)
            if self._stopped or self._next is ended:
                self._finished, self.note = True, ended.note
                return False
            self._current, self.name = self._next, self._next.name
            return True

    @property
    def state(self) -> State:
        """The state of the source that is played."""
        return "ended" if self._stopped or self._finished else self._current.state

    @property
    def problem(self) -> str:
        """The problem of the source that is played."""
        return self._current.problem

    @property
    def repeated(self) -> int:
        """The repeated frames of the source that is played."""
        return self._current.repeated

    def stop(self) -> None:
        super().stop()
        for source in (self._current, self._next):
            source.stop()

    def close(self) -> None:
        super().close()
        for source in list(self._open_sources):
            source.close()


def display_names(specs: Sequence[str]) -> dict[str, str]:
    """Sources -> {name without credentials: source}. Equal names are numbered."""
    names: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        base = f"camera {int(spec)}" if spec.isdecimal() else spec_without_credentials(spec)
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base} ({number})"
        names[name] = spec
    return names
