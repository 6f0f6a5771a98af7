"""The loop: frames come in, their faces are found and judged in one batch, and the answers go out."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from iern.runtime.app.command_line import Options
from iern.runtime.app.frame_analyzer import AnalysisFailures, FrameAnalysis, FrameAnalyzer, analyzed_frames
from iern.runtime.app.systemd import READY, STOPPING, heartbeat, notify
from iern.runtime.app.window import window_problem
from iern.runtime.app.wiring import _open_outputs, _Outputs
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
from iern.runtime.system.latency import LoopStats, counted
from iern.runtime.system.opencv import limit_opencv, silence_opencv
from iern.runtime.system.queues import produce_in_thread

DEMO_FOLDER = Path("demo_output")
DEMO_FRAMES = 150
"""A demo that shows a camera to nobody ends after so many frames, about ten seconds."""

GLANCE = 0.02
"""Longest wait for an answer, seconds: the window's keys and Ctrl-C are heard between two."""


def run(options: Options) -> None:
    """Open model and source, watch until the end, and say what came of it and where it is.

    Raises IernError where something cannot be opened or written. What ends the loop against its will, a lost source
    or an error in any of its threads, is raised once the outputs are finished; so is the failure of an output, without
    which the loop went on.
    """
    silence_opencv()
    limit_opencv()
    problem = "" if options.headless else window_problem()
    if problem and not options.demo:
        raise OutputError(f"{problem}; use --headless, with --serve to watch or --jsonl to keep the answers")
    tally = LoopStats()
    lost: Exception | None = None
    if options.provider == "tensorrt" and options.model.suffix.lower() == ".onnx":
        print("TensorRT builds its engines at the first start of a model, for minutes, and keeps them", flush=True)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_open_model(options))
        source = stack.enter_context(_open(options))
        if options.demo and (problem or options.headless):
            options = _staged(options, source)
            print(f"no window: {problem or '--headless'}; writing to {DEMO_FOLDER}/")
        if session.note:
            print(f"note: runs on {session.provider}: {session.note}")
        if source.details:
            print(f"{source.name}: {source.details}")
        print(f"{source.name} -> {options.model.name} on {session.provider}", flush=True)
        stack.enter_context(_stopped_by_signals(source))
        outputs = _open_outputs(options, source, session, stack)
        judge = FrameAnalyzer(FaceDetector(), session, detect_every=options.detect_every, half_life=options.half_life)
        notify(READY)
        try:
            watch(source, judge, outputs.sinks, tally, options.max_frames, [_alive(judge), *outputs.turns])
        except Exception as error:  # whatever ended it, what was written until now is whole: let it be finished
            lost = error
        notify(STOPPING)
    _report(options, source, session, tally)
    for path in _written(options, tally, outputs):
        print(f"wrote {path}")
    if lost:
        raise lost
    if outputs.failures:
        raise OutputError("; ".join(outputs.failures.values()))


def watch(
    source: Source,
    judge: FrameAnalyzer,
    sinks: Sequence[Sink],
    tally: LoopStats,
    max_frames: int | None = None,
    turns: Sequence[Callable[[], None]] = (),
) -> None:
    """Judge the source's frames and hand them to the sinks; `tally` counts along.

    Reading and judging have a thread each; the sinks are called in this one, and `turns` many times a second, whether
    there is something for the sinks or not. Of a live source each thread takes the latest: however slow one is, no
    picture grows old. Of files every frame goes all the way, in order. What ends a thread is raised here.
    """
    judge.warm_up()
    with contextlib.ExitStack() as stack:
        # A live source reads in a thread of its own already, and keeps the latest frame.
        frames = source if source.live else stack.enter_context(produce_in_thread(source, latest=False, name="capture"))
        answers = analyzed_frames(frames, judge, AnalysisFailures(tally))
        ready = stack.enter_context(produce_in_thread(answers, latest=source.live, name="inference"))
        stack.callback(source.stop)  # first of all at the end: it lets the threads go
        while not (source.stopped or ready.ended):
            for turn in turns:
                turn()
            answer = ready.take(GLANCE)
            if answer is None:
                continue
            tally.add(answer.latency, len(answer.faces))
            tally.dropped = source.dropped + ready.dropped
            status = _status(tally, answer, judge.provider, source.live)
            view = FrameResult(answer.frame, answer.faces, answer.latency, status, tally.dropped)
            for sink in sinks:
                sink(view)
            tally.shown(1000 * (time.monotonic() - answer.frame.captured))
            if tally.frames == max_frames:
                source.stop()


def _alive(judge: FrameAnalyzer) -> Callable[[], None]:
    """For each turn of the loop: systemd's watchdog hears of it, unless the model has not come back from a frame."""
    beat = heartbeat()
    return lambda: None if judge.stuck else beat()


def _status(tally: LoopStats, answer: FrameAnalysis, provider: str, live: bool) -> str:
    parts = [f"{tally.rate:.1f} fps", f"{answer.latency.total:.0f} ms"]
    if live:
        parts += [f"age {tally.age:.0f} ms", f"{tally.dropped} dropped"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    return "   ".join([*parts, counted(len(answer.faces), "face"), provider])


def _open_model(options: Options) -> Session:
    def opened() -> Session:
        return open_session(options.model, provider=options.provider, strict=options.strict)

    if options.model.suffix.lower() == ".engine":
        return open_or_rebuild(options.model, opened, options.rebuild)
    return opened()


def _open(options: Options) -> Source:
    """The source asked for; for the demo the bundled clip where that one does not open."""
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


def _staged(options: Options, source: Source) -> Options:
    """The demo without a window: everything goes into files, and a camera is watched for a while only."""
    return dataclasses.replace(
        options,
        headless=True,
        record=options.record or DEMO_FOLDER / "annotated.webm",
        still=options.still or DEMO_FOLDER / "still.png",
        max_frames=options.max_frames or (DEMO_FRAMES if source.live else None),
    )


@contextlib.contextmanager
def _stopped_by_signals(source: Source) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the source, so that everything is finished; a second Ctrl-C does not wait for that."""

    def stop(number: int, _: FrameType | None) -> None:
        if source.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        source.stop()

    if threading.current_thread() is not threading.main_thread():  # Python hands signals to the main thread only
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(options: Options, source: Source, session: Session, tally: LoopStats) -> None:
    print("\n".join(tally.summary(session.provider, source.live)))
    if tally.dropped:
        print(f"note: {tally.dropped} frames came while the loop was busy and were dropped")
    if tally.failed:
        print(f"note: {counted(tally.failed, 'frame')} got no answer")
    if source.note:
        print(f"note: {source.note}")


def _written(options: Options, tally: LoopStats, outputs: _Outputs) -> list[Path]:
    """The files that hold what was asked of them; of recordings, `RecordSwitch` tells."""
    asked = (options.still, options.jsonl, options.csv, options.summary)
    return [path for path in asked if path and tally.frames and str(path) not in outputs.failures]
