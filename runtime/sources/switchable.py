"""One source after another, out of those that the operator allowed: whoever watches the page chooses."""

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
from iern.runtime.sources.streams import shown

GLANCE = 0.05
"""Seconds between two looks whether a film is still wanted."""
LETTING_GO = 30.0
"""Seconds for which is waited until a source that nobody wants any more has given its last frame."""

logger = logging.getLogger(__name__)


class SwitchableSource(Source):
    """A live source that is one of several: time and index go on where another takes over, in a new segment.

    It is live whatever it is made of, and a film plays no faster than at its own speed. Where one that was chosen comes
    to its end, the first one takes over again; the end of that is its end.
    """

    live = True

    def __init__(self, first: Source, spec: str, others: Sequence[str], settings: SourceSettings) -> None:
        """`first` is the open source of `spec`; `others` are opened, with `settings`, when they are chosen."""
        super().__init__(first.name, fps=0.0)
        self.details = first.details
        self._specs = named([spec, *others])
        self._home = self.chosen = next(iter(self._specs))
        """`chosen`: the one of `names` that is watched, or being opened."""
        self._settings = settings
        self._current = self._following = first
        self._opened = {first: self._home}
        self._change = threading.Lock()  # two threads may want to open the same camera, which opens once only

    @property
    def names(self) -> list[str]:
        """Of all that may be chosen, without credentials."""
        return list(self._specs)

    def choose(self, name: str) -> None:
        """Watch that one of `names`; one thread at a time may ask. Raises SourceError, and changes nothing, where it
        does not open.
        """
        with self._change:
            before, old = self.chosen, self._current
            if name == before:
                return
            self.chosen = name
            try:
                new = self._open(name)
            except BaseException:
                self.chosen = before
                raise
        old.stop()
        end = time.monotonic() + LETTING_GO
        while self._current is old and not (self._stopped or self._finished) and time.monotonic() < end:
            time.sleep(GLANCE)
        if self._current is not old:  # only now: the loop's thread may have been reading until then
            self._close(old)
        elif self._stopped or self._finished:
            new.close()

    def _open(self, name: str) -> Source:
        """The source of that name, which is to follow."""
        source = open_source(self._specs[name], self._settings)
        self._opened[source] = name
        self._following, self.chosen = source, name
        return source

    def _close(self, old: Source) -> None:
        del self._opened[old]
        old.close()

    def __iter__(self) -> Iterator[Frame]:
        index = segment = dropped = reconnects = 0
        start: float | None = None
        while True:
            source, first, piece = self._current, index, segment
            for frame in self._played(source):
                start = frame.captured if start is None else start
                index, segment = first + frame.index, piece + frame.segment
                self.dropped, self.reconnects = dropped + source.dropped, reconnects + source.reconnects
                yield dataclasses.replace(frame, time=frame.captured - start, index=index, segment=segment)
            if not self._moved_on():
                return
            index, segment, dropped, reconnects = index + 1, segment + 1, self.dropped, self.reconnects

    def _played(self, source: Source) -> Iterator[Frame]:
        """Its frames, a film's at their own time. What ends a source that nobody wants any more goes unsaid."""
        start = time.monotonic()
        try:
            for frame in source:
                while not source.live and (left := start + frame.time - time.monotonic()) > 0 and not source.stopped:
                    time.sleep(min(left, GLANCE))
                if source.stopped:
                    return
                yield frame if source.live else dataclasses.replace(frame, captured=time.monotonic())
        except IernError:
            if self._following is source:
                raise

    def _moved_on(self) -> bool:
        """Whether another source takes its place: one that was chosen or, after one that was, the first."""
        with self._change:
            ended = self._current
            if self._following is ended and self._opened[ended] != self._home and not self._stopped:
                home = self._open(self._home)
                logger.warning("%s: has ended; back to %s", ended.name, home.name)
                self._close(ended)
            if self._stopped or self._following is ended:
                self._finished, self.note = True, ended.note
                return False
            self._current, self.name = self._following, self._following.name
            return True

    @property
    def state(self) -> State:
        """That of the source that is watched."""
        return "ended" if self._stopped or self._finished else self._current.state

    @property
    def trouble(self) -> str:
        """That of the source that is watched."""
        return self._current.trouble

    @property
    def repeated(self) -> int:
        """That of the source that is watched."""
        return self._current.repeated

    def stop(self) -> None:
        super().stop()
        for source in (self._current, self._following):
            source.stop()

    def close(self) -> None:
        super().close()
        for source in list(self._opened):
            source.close()


def named(specs: Sequence[str]) -> dict[str, str]:
    """Names that may be shown -> the sources; where credentials or queries alone tell two apart, they are counted."""
    names: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        once = f"camera {int(spec)}" if spec.isdecimal() else shown(spec)
        name, number = once, 1
        while name in names:
            number += 1
            name = f"{once} ({number})"
        names[name] = spec
    return names
