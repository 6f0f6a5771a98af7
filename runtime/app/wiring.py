"""Opens the outputs that the command line asks for, and connects them to the loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.app.command_line import Options
from iern.runtime.app.window import window
from iern.runtime.outputs.blur import without_faces
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.mqtt import mqtt_records
from iern.runtime.outputs.queued_sink import QueuedSink, queued_sink
from iern.runtime.outputs.records import csv_lines, json_lines
from iern.runtime.outputs.still import print_answers, still
from iern.runtime.outputs.summary import summary
from iern.runtime.outputs.video.recording import recording
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.serve.address import Address
from iern.runtime.session import Session
from iern.runtime.sources.base import Source
from iern.runtime.sources.files import ImageFiles
from iern.runtime.sources.switchable import SwitchableSource

LOG_EVERY = 60.0
"""Seconds between two lines about a live source."""


@contextlib.contextmanager
def file_outputs(options: Options, source: Source, expressions: Sequence[str]) -> Iterator[list[QueuedSink]]:
    """The sinks of all that is to be written or sent but the recording; none makes a live source's loop wait.

    One that ended before the loop has a `failure`. Raises OutputError and OSError where one cannot begin.
    """
    live = source.live
    with contextlib.ExitStack() as outputs, contextlib.ExitStack() as threads:  # all threads end before any output
        opened: list[QueuedSink] = []

        def add(output: contextlib.AbstractContextManager[Sink], what: object, pictures: bool = False) -> None:
            sink = outputs.enter_context(output)
            opened.append(threads.enter_context(queued_sink(sink, str(what), live, pictures)))

        if options.jsonl:
            add(json_lines(options.jsonl), options.jsonl)
        if options.csv:
            add(csv_lines(options.csv, expressions), options.csv)
        if options.mqtt:
            add(mqtt_records(options.mqtt), options.mqtt)
        if options.summary:
            add(summary(options.summary), options.summary)
        if options.still:
            add(still(options.still), options.still, pictures=True)
        yield opened


@contextlib.contextmanager
def recorded(path: Path, source: Source) -> Iterator[QueuedSink]:
    """A recording of the source's views from now until the block ends, in the background."""
    with (
        recording(path, 0.0 if source.live else source.fps) as sink,
        queued_sink(sink, str(path), source.live, pictures=True) as output,
    ):
        yield output


def _every_minute() -> Sink:
    """A sink that prints the status now and then, for the log of a loop that runs for days."""
    due = time.monotonic() + LOG_EVERY

    def say(view: FrameResult) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LOG_EVERY
            print(view.status, flush=True)

    return say


@dataclass(frozen=True)
class _Outputs:
    """Where the views go, and what is to be called at each turn of the loop."""

    files: Sequence[QueuedSink]
    recorder: RecordingSwitch
    sinks: Sequence[Sink]
    turns: Sequence[Callable[[], None]]

    @property
    def failures(self) -> dict[str, str]:
        """By output, in words: those without which the loop went on."""
        failed = {output.what: f"{output.what}: {output.failure}" for output in self.files if output.failure}
        return failed | ({"recording": self.recorder.failure} if self.recorder.failure else {})


def _open_outputs(options: Options, source: Source, session: Session, stack: contextlib.ExitStack) -> _Outputs:
    images = isinstance(source, ImageFiles)
    folder = options.record.parent if options.record else Path()
    files = stack.enter_context(file_outputs(options, source, session.artifact.expressions))
    recorder = stack.enter_context(RecordingSwitch(lambda path: recorded(path, source), folder, options.record))
    sinks: list[Sink] = [*files, recorder]
    turns = [recorder.turn]
    if images:
        sinks.append(print_answers)
    if source.live:
        sinks.append(_every_minute())
    if options.serve:
        sinks.append(stack.enter_context(_page(options.serve, options, source, recorder)))
    if not options.headless:
        next_image = "; any other shows the next image" if images else ""
        print(f"keys in the window: h shows them, q leaves{next_image}", flush=True)
        screen = stack.enter_context(window(source, images, recorder, folder))
        sinks.append(screen)
        turns.append(screen.hear)
    return _Outputs(files, recorder, [without_faces(sinks)] if options.blur_faces else sinks, turns)


def _page(
    address: Address, options: Options, source: Source, recorder: RecordingSwitch
) -> contextlib.AbstractContextManager[Sink]:
    from iern.runtime.serve.loop_controls import LoopControls  # late: a loop without a page needs no server
    from iern.runtime.serve.server import serving

    choice = source if isinstance(source, SwitchableSource) else None
    return serving(address, options.token, LoopControls(recorder, options.jsonl or options.csv, choice))
