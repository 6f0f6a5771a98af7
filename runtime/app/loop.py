"""The loop: read a frame, find its faces, predict their expressions in one batch, and pass the result on."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from iern.runtime.power.energy import EnergyMeter, energy_lines, metered
from iern.runtime.session import Session
from iern.runtime.sources.base import Source
from iern.runtime.sources.group import SourceGroup, frame_batches
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.switchable import SwitchableSource, display_names
from iern.runtime.system.append_only_file import STDOUT
from iern.runtime.system.latency import LoopStats, counted
from iern.runtime.system.opencv import limit_opencv, silence_opencv
from iern.runtime.system.queues import FrameQueue, produce_into
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
        meter = stack.enter_context(metered(options.power, lambda: (stats.frames, stats.faces)))
        outputs = stack.enter_context(open_outputs(options, source, analyzer, stats, interrupted, meter))
        on_each_iteration = [_watchdog(analyzer), meter.update, *outputs.on_each_iteration]
        notify(READY)
        try:
            run_loop(source, analyzer, outputs.sinks, stats, options.max_frames, on_each_iteration)
        except Exception as error:  # whatever it is, the outputs are finished before it is raised
            loop_error = error
        meter.stop()  # before the outputs write its figures
        loop_error = loop_error or source.failure
        notify(STOPPING)
    _print_end(options, source, session, stats, outputs, meter)
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
    """Analyze the frames of one source or a group, call the sinks with each result, and count in `stats`.

    A thread reads each source and one analyzes. This thread calls the sinks, and `on_each_iteration` many times a
    second, with or without a result. With a live source each thread takes the latest frame, so that no picture grows
    old even if a thread is slow. With files every frame arrives, in order. An error that ends a thread is raised here.
    """
    analyzer.warm_up()
    for name in source.members if isinstance(source, SourceGroup) else ():
        stats.of(name)  # so that one that never gives a frame is counted, too
    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(frame_batches(source))
        analyses = analyzed_frames(batches, analyzer, AnalysisFailures(stats, source.live))
        files = [name for name, member in _members(source).items() if not member.live]
        queue = FrameQueue[FrameAnalysis](source.live, lane=lambda each: each.frame.source, complete=files)
        stack.enter_context(produce_into(queue, {"inference": analyses}))
        stack.callback(source.stop)  # runs first at the end, so that the threads can end
        while not (source.stopped or queue.ended):
            for call in on_each_iteration:
                call()
            analysis = queue.take(POLL_SECONDS)
            if analysis is None:
                continue
            name = analysis.frame.source
            stats.add(analysis.latency, len(analysis.faces), name)
            stats.set_dropped(source.dropped_of(name) + queue.dropped_in(name), name)
            status = _status(stats, analysis, analyzer.provider, source)
            dropped = stats.of(name).dropped
            result = FrameResult(analysis.frame, analysis.faces, analysis.latency, status, dropped)
            for sink in sinks:
                sink(result)
            stats.add_age(1000 * (time.monotonic() - analysis.frame.captured))
            if stats.frames == max_frames:
                source.stop()


def _watchdog(analyzer: FrameAnalyzer) -> Callable[[], None]:
    """A function for each iteration: it reports to systemd's watchdog, unless the analyzer is stuck."""
    beat = heartbeat()
    return lambda: None if analyzer.stuck else beat()


def _members(source: Source) -> Mapping[str, Source]:
    """The sources of a group by their names. Of a single source: that one."""
    return source.members if isinstance(source, SourceGroup) else {source.name: source}


def _status(stats: LoopStats, analysis: FrameAnalysis, provider: str, source: Source) -> str:
    """The rate and the latency in words: of all sources together, if there are several."""
    several = isinstance(source, SourceGroup)
    parts = [source.name] if several else []
    parts += [f"{stats.rate:.1f} fps", f"{analysis.latency.total:.0f} ms"]
    if source.live:
        parts += [f"age {stats.age:.0f} ms", f"{stats.dropped} dropped"]
    if stats.failed:
        parts.append(f"{stats.failed} failed")
    if not several:
        parts.append(counted(len(analysis.faces), "face"))
    return "   ".join([*parts, provider])


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
    """Open the requested source, or several as a group."""
    if len(options.sources) > 1:
        return _open_group(options)
    spec, source = _open_or_demo(options, options.source)
    if not options.allow_source:
        return source
    return SwitchableSource(source, spec, options.allow_source, options.source_settings)


def _open_group(options: Options) -> SourceGroup:
    """Open all sources. If one cannot be opened, none stays open."""
    members: dict[str, Source] = {}
    with contextlib.ExitStack() as opened:
        for name, wanted in display_names(options.sources).items():
            spec, source = _open_or_demo(options, wanted)
            opened.callback(source.close)
            members[name if spec == wanted else f"{source.name} for {name}"] = source
        opened.pop_all()
    return SourceGroup(members)


def _open_or_demo(options: Options, spec: str) -> tuple[str, Source]:
    """What was opened, and the open source: the requested one, or for the demo the bundled clip if that fails."""
    try:
        return spec, open_source(spec, options.source_settings)
    except SourceError as error:
        if not options.demo:
            raise
        print(f"{error}\nplaying the bundled clip instead")
        return str(DEMO_CLIP), open_source(str(DEMO_CLIP))


def _demo_into_files(options: Options, source: Source) -> Options:
    """The options of a demo without a window: it writes files, and ends early if its source is live."""
    return dataclasses.replace(
        options,
        headless=True,
        record=options.record or DEMO_FOLDER / "annotated.webm",
        still=options.still or DEMO_FOLDER / "still.png",
        max_frames=options.max_frames or (DEMO_FRAMES * len(options.sources) if source.live else None),
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
    for name, member in _members(source).items():
        if member.details:
            print(f"{name}: {member.details}")
    bits = " in 8 bits" if session.artifact.in_8_bits else ""
    strata = f", all {len(session.artifact.strata)} strata once a second" if collapsed else ""
    print(f"{source.name} -> {options.model.name}{bits} on {session.provider}{strata}", flush=True)


def _print_end(
    options: Options, source: Source, session: Session, stats: LoopStats, outputs: Outputs, meter: EnergyMeter
) -> None:
    """Print the counts, the latencies, the energy and the written files. `RecordingSwitch` prints its recordings."""
    print("\n".join([*stats.summary(session.provider, source.live), *energy_lines(meter.energies)]))
    if stats.dropped:
        print(f"note: dropped {counted(stats.dropped, 'frame')} that came while the loop was busy")
    if stats.failed:
        print(f"note: {counted(stats.failed, 'frame')} failed and got no result")
    for member in _members(source).values():
        if member.note:
            print(f"note: {member.note}")
    for path in (options.still, options.annotate, options.jsonl, options.csv, options.summary):
        if path and path != STDOUT and stats.frames and str(path) not in outputs.failures:
            print(f"wrote {path}")
