"""The loop: read a frame, find its faces, predict their expressions in one batch, and pass the result on."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from iern.runtime.app.command_line import Options
from iern.runtime.app.frame_analyzer import AnalysisFailures, FrameAnalysis, FrameAnalyzer, analyzed_frames
from iern.runtime.app.output_checks import check_outputs
from iern.runtime.app.systemd import READY, STOPPING, heartbeat, notify
from iern.runtime.app.window import window_problem
from iern.runtime.app.wiring import Outputs, open_outputs
from iern.runtime.backends.collapsed import open_collapsed
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.rebuild import open_or_rebuild
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import OutputError, SourceError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.session import Session
from iern.runtime.sources.base import Source
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.switchable import SwitchableSource
from iern.runtime.system.append_only_file import STDOUT
from iern.runtime.system.latency import LoopStats, counted
from iern.runtime.system.opencv import limit_opencv, silence_opencv
from iern.runtime.system.queues import produce_in_thread
from iern.runtime.system.signals import on_signals

DEMO_FOLDER = Path("demo_output")
DEMO_FRAMES = 150
"""Frames after which the demo of a live source ends if there is no window: about ten seconds."""

POLL_SECONDS = 0.02
"""Longest wait for the next frame. The window's keys and Ctrl-C are handled between two waits."""


def run(options: Options) -> None:
    """Open the model and the source, run the loop to its end, and print what was counted and written.

    Raises IernError if something cannot be opened or written. An error that ends the loop, such as a lost source, is
    raised after the outputs are finished. So is the failure of an output, without which the loop continued.
    """
    check_outputs(options)
    silence_opencv()
    limit_opencv()
    no_window = "--headless" if options.headless else window_problem()
    if no_window and not (options.headless or options.demo):
        raise OutputError(f"{no_window}; use --headless, with --serve to watch or --jsonl to write the results")
    stats = LoopStats()
    loop_error: Exception | None = None
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_open_model(options))
        collapsed = open_collapsed(options.model, session, prior=options.prior) if options.strata == "auto" else None
        if collapsed is not None:
            stack.enter_context(collapsed)
        source = stack.enter_context(_open_source(options))
        if options.demo and no_window:
            options = _demo_into_files(options, source)
            check_outputs(options)
            print(f"no window: {no_window}; writing to {DEMO_FOLDER}/")
        _print_start(options, source, session, collapsed)
        interrupted = stack.enter_context(_stopped_by_signals(source))
        analyzer = FrameAnalyzer(
            FaceDetector(longest_side=options.detect_size),
            session,
            collapsed=collapsed,
            search=options.search,
            half_life=options.half_life,
        )
        outputs = stack.enter_context(open_outputs(options, source, analyzer, interrupted))
        on_each_iteration = [_watchdog(analyzer), *outputs.on_each_iteration]
        notify(READY)
        try:
            run_loop(source, analyzer, outputs.sinks, stats, options.max_frames, on_each_iteration)
        except Exception as error:  # whatever it is, the outputs are finished before it is raised
            loop_error = error
        notify(STOPPING)
    _print_end(options, source, session, stats, outputs)
    if loop_error:
        raise loop_error
    if outputs.failures:
        raise OutputError("; ".join(outputs.failures.values()))


def run_loop(
    source: Source,
    analyzer: FrameAnalyzer,
    sinks: Sequence[Sink],
    stats: LoopStats,
    max_frames: int | None = None,
    on_each_iteration: Sequence[Callable[[], None]] = (),
) -> None:
    """Analyze the source's frames, call the sinks with each result, and count in `stats`.

    One thread reads and one analyzes. This thread calls the sinks, and `on_each_iteration` many times a second, with or
    without a result. With a live source each thread takes the latest frame, so that no picture grows old even if a
    thread is slow. With files every frame arrives, in order. An error that ends a thread is raised here.
    """
    analyzer.warm_up()
    with contextlib.ExitStack() as stack:
        # A live source already reads in a thread of its own, and keeps the latest frame.
        frames = source if source.live else stack.enter_context(produce_in_thread(source, latest=False, name="capture"))
        analyses = analyzed_frames(frames, analyzer, AnalysisFailures(stats))
        queue = stack.enter_context(produce_in_thread(analyses, latest=source.live, name="inference"))
        stack.callback(source.stop)  # runs first at the end, so that the threads can end
        while not (source.stopped or queue.ended):
            for call in on_each_iteration:
                call()
            analysis = queue.take(POLL_SECONDS)
            if analysis is None:
                continue
            stats.add(analysis.latency, len(analysis.faces))
            stats.dropped = source.dropped + queue.dropped
            status = _status(stats, analysis, analyzer.provider, source.live)
            result = FrameResult(analysis.frame, analysis.faces, analysis.latency, status, stats.dropped)
            for sink in sinks:
                sink(result)
            stats.add_age(1000 * (time.monotonic() - analysis.frame.captured))
            if stats.frames == max_frames:
                source.stop()


def _watchdog(analyzer: FrameAnalyzer) -> Callable[[], None]:
    """A function for each iteration: it reports to systemd's watchdog, unless the analyzer is stuck."""
    beat = heartbeat()
    return lambda: None if analyzer.stuck else beat()


def _status(stats: LoopStats, analysis: FrameAnalysis, provider: str, live: bool) -> str:
    parts = [f"{stats.rate:.1f} fps", f"{analysis.latency.total:.0f} ms"]
    if live:
        parts += [f"age {stats.age:.0f} ms", f"{stats.dropped} dropped"]
    if stats.failed:
        parts.append(f"{stats.failed} failed")
    return "   ".join([*parts, counted(len(analysis.faces), "face"), provider])


def _open_model(options: Options) -> Session:
    def open_file() -> Session:
        return open_session(
            options.model,
            provider=options.provider,
            strict=options.strict,
            prior=options.prior,
            precision=options.precision,
        )

    suffix = options.model.suffix.lower()
    if options.provider == "tensorrt" and suffix == ".onnx":
        print("TensorRT builds its engines at a model's first start, which takes minutes, and keeps them", flush=True)
    return open_or_rebuild(options.model, open_file, options.rebuild) if suffix == ".engine" else open_file()


def _open_source(options: Options) -> Source:
    """Open the requested source; for the demo the bundled clip if that fails."""
    try:
        spec, source = options.source, open_source(options.source, options.source_settings)
    except SourceError as error:
        if not options.demo:
            raise
        print(f"{error}\nplaying the bundled clip instead")
        spec, source = str(DEMO_CLIP), open_source(str(DEMO_CLIP))
    if not options.allow_source:
        return source
    return SwitchableSource(source, spec, options.allow_source, options.source_settings)


def _demo_into_files(options: Options, source: Source) -> Options:
    """The options of a demo without a window: it writes files, and ends early if its source is live."""
    return dataclasses.replace(
        options,
        headless=True,
        record=options.record or DEMO_FOLDER / "annotated.webm",
        still=options.still or DEMO_FOLDER / "still.png",
        max_frames=options.max_frames or (DEMO_FRAMES if source.live else None),
    )


@contextlib.contextmanager
def _stopped_by_signals(source: Source) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM stop the source, and the outputs are finished. A second Ctrl-C ends the command at once.

    Yields a function that returns whether a signal came.
    """
    signals: list[int] = []

    def stop(number: int) -> None:
        if source.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)
        source.stop()

    with on_signals(stop):
        yield lambda: bool(signals)


def _print_start(options: Options, source: Source, session: Session, collapsed: Session | None) -> None:
    if session.note:
        print(f"note: runs on {session.provider}: {session.note}")
    if source.details:
        print(f"{source.name}: {source.details}")
    bits = " in 8 bits" if session.artifact.in_8_bits else ""
    strata = f", all {len(session.artifact.strata)} strata once a second" if collapsed else ""
    print(f"{source.name} -> {options.model.name}{bits} on {session.provider}{strata}", flush=True)


def _print_end(options: Options, source: Source, session: Session, stats: LoopStats, outputs: Outputs) -> None:
    """Print the counts, the latencies and the written files. `RecordingSwitch` prints the recordings itself."""
    print("\n".join(stats.summary(session.provider, source.live)))
    if stats.dropped:
        print(f"note: dropped {counted(stats.dropped, 'frame')} that came while the loop was busy")
    if stats.failed:
        print(f"note: {counted(stats.failed, 'frame')} failed and got no result")
    if source.note:
        print(f"note: {source.note}")
    for path in (options.still, options.annotate, options.jsonl, options.csv, options.summary):
        if path and path != STDOUT and stats.frames and str(path) not in outputs.failures:
            print(f"wrote {path}")
