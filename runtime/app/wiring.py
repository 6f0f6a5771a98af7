"""Opens the outputs that the command line requests, and connects them to the loop."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.app.command_line import Options
from iern.runtime.app.frame_analyzer import FrameAnalyzer
from iern.runtime.app.grid import Grid
from iern.runtime.app.window import window
from iern.runtime.errors import OutputError
from iern.runtime.outputs.blur import with_faces_blurred
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.mqtt import mqtt_records
from iern.runtime.outputs.queued_sink import QueuedSink, queued_sink
from iern.runtime.outputs.records import csv_lines, json_lines
from iern.runtime.outputs.still import annotated_pictures, print_expressions, still_picture
from iern.runtime.outputs.summary import session_summary
from iern.runtime.outputs.video.recording import recording
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.power.energy import EnergyMeter
from iern.runtime.sources.base import Source
from iern.runtime.sources.files import ImageFiles, VideoFile
from iern.runtime.sources.group import SourceGroup
from iern.runtime.system.latency import LoopStats

LOG_INTERVAL = 60.0
"""Seconds between two status lines of a live source."""


@dataclass(frozen=True)
class Outputs:
    """The open outputs of a loop."""

    files: Sequence[QueuedSink]
    """What is written or published, except the recording."""
    recorder: RecordingSwitch
    sinks: Sequence[Sink]
    """What the loop calls with every result."""
    on_each_iteration: Sequence[Callable[[], None]]
    """What the loop calls in each iteration, with or without a result."""

    @property
    def failures(self) -> dict[str, str]:
        """Output -> error, for those that failed while the loop continued."""
        failed = {output.name: f"{output.name}: {output.failure}" for output in self.files if output.failure}
        return failed | ({"recording": self.recorder.failure} if self.recorder.failure else {})


@contextlib.contextmanager
def open_outputs(
    options: Options,
    source: Source,
    analyzer: FrameAnalyzer,
    stats: LoopStats,
    interrupted: Callable[[], bool],
    meter: EnergyMeter,
) -> Iterator[Outputs]:
    """Open every requested output, and finish all of them when the block ends.

    Records are of single frames. Pictures of several sources are grids. `stats` has what is known of each source,
    and `meter` what the summary says of the energy.

    The page shares the detector and the model of the `analyzer`, and changes how it smooths. After a signal, when
    `interrupted()` is true, no output waits long for a reader that does not read. Raises OutputError or OSError if one
    cannot be opened.
    """
    images = isinstance(source, ImageFiles)
    if options.annotate and not images:
        raise OutputError(f"{source.name}: --annotate is for an image or a folder; --record writes a video")
    folder = options.record.parent if options.record else Path()
    with contextlib.ExitStack() as stack:
        expressions = analyzer.session.artifact.expressions
        files = stack.enter_context(file_outputs(options, source, expressions, interrupted, meter))
        open_recording = functools.partial(recorded, source=source, sound_of=_sound_of(options, source))
        recorder = stack.enter_context(RecordingSwitch(open_recording, folder, options.record))
        records: list[Sink] = [file for file in files if not file.pictures]
        pictures: list[Sink] = [*(file for file in files if file.pictures), recorder]
        on_each_iteration = [recorder.update]
        if images:
            records.append(print_expressions)
        if source.live:
            records.append(_status_log(source, stats))
        if options.serve:
            from iern.runtime.app.page import loop_page  # late: a loop without a page needs no server

            page = stack.enter_context(loop_page(options, source, recorder, analyzer))
            pictures.append(page)
            records += [page] if isinstance(source, SourceGroup) else []
        if not options.headless:
            next_image = "; any other key shows the next image" if images else ""
            print(f"keys in the window: h lists them, q quits{next_image}", flush=True)
            screen = stack.enter_context(window(source, images, recorder, folder, options.mirror))
            pictures.append(screen)
            on_each_iteration.append(screen.handle_key)
        if isinstance(source, SourceGroup):
            shown = not options.headless or options.serve or options.still
            grid = Grid(source, stats, pictures, wanted=lambda: bool(shown or recorder.wanted))
            stack.callback(grid.finish)
            on_each_iteration.append(grid.update)
            pictures = [grid]
        sinks: list[Sink] = [*records, *pictures]
        if options.blur_faces:
            sinks = [with_faces_blurred(sinks)]
        yield Outputs(files, recorder, sinks, on_each_iteration)


@contextlib.contextmanager
def file_outputs(
    options: Options, source: Source, expressions: Sequence[str], interrupted: Callable[[], bool], meter: EnergyMeter
) -> Iterator[list[QueuedSink]]:
    """The sinks of everything that is written or published, except the recording. None makes a live loop wait.

    A sink that failed has a `failure`. Raises OutputError or OSError if one cannot be opened.
    """
    live = source.live
    with contextlib.ExitStack() as outputs, contextlib.ExitStack() as threads:  # every thread ends before any output
        opened: list[QueuedSink] = []

        def add(output: contextlib.AbstractContextManager[Sink], name: object, pictures: bool = False) -> None:
            sink = outputs.enter_context(output)
            opened.append(threads.enter_context(queued_sink(sink, str(name), live, pictures)))

        if options.jsonl:
            add(json_lines(options.jsonl, interrupted), options.jsonl)
        if options.csv:
            add(csv_lines(options.csv, expressions, interrupted), options.csv)
        if options.mqtt:
            add(mqtt_records(options.mqtt, options.publishing), options.mqtt)
        if options.summary:
            add(session_summary(options.summary, lambda: meter.energies), options.summary)
        if options.still:
            add(still_picture(options.still), options.still, pictures=True)
        if options.annotate:
            add(annotated_pictures(options.annotate), options.annotate, pictures=True)
        yield opened


@contextlib.contextmanager
def recorded(path: Path, source: Source, sound_of: Path | None = None) -> Iterator[QueuedSink]:
    """A recording of the source's results until the block ends, written in a thread. `sound_of`: see `recording`."""
    with (
        recording(path, 0.0 if source.live else source.fps, sound_of) as sink,
        queued_sink(sink, str(path), source.live, pictures=True) as output,
    ):
        yield output


def _sound_of(options: Options, source: Source) -> Path | None:
    """The video file whose sound a recording takes. None for other sources, and if nobody is to be recognised."""
    path = Path(options.source)
    is_file = isinstance(source, VideoFile) and source.name == path.name and path.is_file()
    return path if is_file and not options.blur_faces else None


def _status_log(source: Source, stats: LoopStats) -> Sink:
    """A sink that prints the status every LOG_INTERVAL, for the log of a loop that runs for days.

    Each of several sources has a line of its own.
    """
    due = time.monotonic() + LOG_INTERVAL

    def print_status(result: FrameResult) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LOG_INTERVAL
            print(result.status, flush=True)
            members = source.members if isinstance(source, SourceGroup) else {}
            for name, member in members.items():
                problem = "" if member.state == "live" else f"; {member.state}: {member.problem}".rstrip(": ")
                print(f"  {name}: {stats.of(name).text()}{problem}", flush=True)

    return print_status
