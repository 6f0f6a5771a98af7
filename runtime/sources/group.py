"""Several sources that the loop plays together: one clock, and a batch of the frames that are at hand."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from iern.runtime.errors import message_of
from iern.runtime.sources.base import Frame, Source, State
from iern.runtime.system.queues import FrameQueue, produce_in_thread, produce_into

POLL_INTERVAL = 0.05
"""Seconds between two checks whether the source of a frame that is not due yet was stopped."""
STEP = 0.02
"""Seconds by which the times of two files' frames may differ in one batch."""

Batches = Iterator[Sequence[Frame]]


class SourceGroup(Source):
    """Several sources. Each frame has the name of its own in `Frame.source`.

    With a live source among them the group is live. A live source then gives its latest frame, and a file every frame,
    at its own speed. Files alone are played as fast as the loop takes them, together by their own clocks. A source that
    ends or fails does not end the others.
    """

    def __init__(self, members: Mapping[str, Source]) -> None:
        """`members` are the open sources, two or more, by distinct names."""
        self.members = dict(members)
        self.live = any(member.live for member in self.members.values())
        super().__init__(f"{len(self.members)} sources", fps=max(member.fps for member in self.members.values()))
        self._queue: FrameQueue[Frame] | None = None

    def __iter__(self) -> Iterator[Frame]:
        with self.batches() as batches:
            for batch in batches:
                yield from batch

    @contextlib.contextmanager
    def batches(self) -> Iterator[Batches]:
        """The frames of all sources, in batches with at most one of each.

        Threads read the sources until the block ends. After the end of the last source, the error that ended one is
        raised.
        """
        with contextlib.ExitStack() as stack:
            yield self._at_hand(stack) if self.live else self._in_step(stack)

    def _at_hand(self, stack: contextlib.ExitStack) -> Batches:
        """The newest frame of each live source and the next one of each file, as soon as there is any."""
        files = [name for name, member in self.members.items() if not member.live]
        queue = FrameQueue[Frame](latest=True, lane=_source_of, complete=files, producers=len(self.members))
        frames = {name: self._frames_of(name, paced=True) for name in self.members}
        self._queue = stack.enter_context(produce_into(queue, frames))
        stack.callback(self.stop)  # runs first at the end, so that the threads can end
        return self._until_end(iter(queue.take_each, []))

    def _in_step(self, stack: contextlib.ExitStack) -> Batches:
        """The next frames of all files with the earliest time, within STEP."""
        queues = {
            name: stack.enter_context(produce_in_thread(self._frames_of(name), latest=False, name=name))
            for name in self.members
        }
        stack.callback(self.stop)
        return self._until_end(_merged(queues))

    def _until_end(self, batches: Batches) -> Batches:
        yield from batches
        self._finished = True

    def _frames_of(self, name: str, paced: bool = False) -> Iterator[Frame]:
        """The frames of one source, with its name. If it fails, that is printed at once."""
        member = self.members[name]
        try:
            for frame in _paced(member) if paced and not member.live else member:
                yield dataclasses.replace(frame, source=name)
        except Exception as error:
            self.failure = self.failure or error
            if any(other.state != "ended" for other in self.members.values() if other is not member):
                print(f"warning: {message_of(error)}; the other sources continue", file=sys.stderr, flush=True)
            raise

    def dropped_of(self, source: str) -> int:
        lost = self._queue.dropped_in(source) if self._queue else 0
        return self.members[source].dropped + lost

    @property
    def state(self) -> State:
        return "ended" if self._stopped or self._finished else "live"

    def stop(self) -> None:
        super().stop()
        for member in self.members.values():
            member.stop()

    def close(self) -> None:
        super().close()
        for member in self.members.values():
            member.close()


@contextlib.contextmanager
def frame_batches(source: Source) -> Iterator[Batches]:
    """The frames of a source in batches, one frame in each, or with several sources those that are at hand together.

    Threads read what needs them until the block ends. With a live source only the latest frames come, otherwise all of
    them, in order.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, SourceGroup):
            yield stack.enter_context(source.batches())
        else:
            # A live source already reads in a thread of its own, and keeps the latest frame.
            live = source.live
            frames = source if live else stack.enter_context(produce_in_thread(source, latest=False, name="capture"))
            yield ([frame] for frame in frames)


def _source_of(frame: Frame) -> str:
    return frame.source


def _paced(source: Source) -> Iterator[Frame]:
    """The frames of a file, each at its own time after the first."""
    start: float | None = None
    for frame in source:
        start = time.monotonic() - frame.time if start is None else start
        while (left := start + frame.time - time.monotonic()) > 0 and not source.stopped:
            time.sleep(min(left, POLL_INTERVAL))
        if source.stopped:
            return
        yield dataclasses.replace(frame, captured=time.monotonic())


def _merged(queues: Mapping[str, FrameQueue[Frame]]) -> Batches:
    """Frames with nearly equal times from all queues together, in the order of time.

    An error that ended a producer is raised when all have ended.
    """
    heads: dict[str, Frame] = {}
    waiting, error = set(queues), None
    while True:
        for name in [name for name in queues if name in waiting]:
            try:
                frame = queues[name].take()
            except Exception as caught:
                frame, error = None, error or caught
            if frame is not None:
                heads[name] = frame
        if not heads:
            break
        earliest = min(frame.time for frame in heads.values())
        waiting = {name for name, frame in heads.items() if frame.time <= earliest + STEP}
        yield [heads.pop(name) for name in queues if name in waiting]
    if error is not None:
        raise error
