"""The loop: frames come in, their faces are found and judged in one batch, and the answers go out."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np

from iern.runtime.capture import open_source, silence_opencv
from iern.runtime.detect import FaceDetector
from iern.runtime.errors import OutputError, SourceError
from iern.runtime.latency import Latency, Tally, counted, stopwatch
from iern.runtime.options import DEMO_CLIP, Options
from iern.runtime.outputs import file_outputs, print_answers, recorded
from iern.runtime.preprocess import crop_faces
from iern.runtime.rebuild import open_or_rebuild
from iern.runtime.results import judged_faces
from iern.runtime.session import Session, open_session
from iern.runtime.sources import ImageFiles, Source
from iern.runtime.threads import limit_opencv
from iern.runtime.view import Sink, View
from iern.runtime.window import window, window_problem

DEMO_FOLDER = Path("demo_output")
DEMO_FRAMES = 150
"""A demo that shows a camera to nobody ends after so many frames, about ten seconds."""


def run(options: Options) -> None:
    """Open model and source, watch until the end, and say what came of it and where it is.

    Raises IernError where something cannot be opened or written, and SourceError, after finishing the outputs, where
    a live source was lost.
    """
    silence_opencv()
    limit_opencv()
    problem = "" if options.headless else window_problem()
    if problem and not options.demo:
        raise OutputError(f"{problem}; use --headless, with --record, --still or --jsonl to keep the answers")
    tally, lost = Tally(), None
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
        print(f"{source.name} -> {options.model.name} on {session.provider}", flush=True)
        stack.enter_context(_stopped_by_signals(source))
        files = list(stack.enter_context(file_outputs(options, source, session.artifact.expressions)))
        if options.record:
            files.append(stack.enter_context(recorded(options.record, source, options.blur_faces)))
        sinks: list[Sink] = [*files, *_open_sinks(options, source, stack)]
        try:
            watch(source, FaceDetector(), session, sinks, tally, options.max_frames)
        except SourceError as error:  # what was written until now is whole, so let it be finished
            lost = error
    _report(options, source, session, tally)
    if lost:
        raise lost
    failures = [f"{output.what}: {output.failure}" for output in files if output.failure]
    if failures:
        raise OutputError("; ".join(failures))


def watch(
    source: Source,
    detector: FaceDetector,
    session: Session,
    sinks: Sequence[Sink],
    tally: Tally,
    max_frames: int | None = None,
) -> None:
    """Judge every frame of the source and hand it to the sinks; `tally` counts along."""
    artifact = session.artifact
    _warm_up(detector, session)
    for frame in source:
        lap = stopwatch()
        detections = detector(frame.image)
        detect = lap()
        crops = crop_faces(frame.image, detections, artifact.input)
        preprocess = lap()
        answer = session(crops)  # one call, however many faces
        latency = Latency(detect, preprocess, infer=lap(), age=1000 * (time.monotonic() - frame.captured))
        faces = judged_faces(detections, answer, artifact)
        tally.add(latency, len(faces))
        view = View(frame, faces, latency, _status(tally, latency, len(faces), session.provider), source.dropped)
        for sink in sinks:
            sink(view)
        if tally.frames == max_frames:
            source.stop()


def _warm_up(detector: FaceDetector, session: Session) -> None:
    """The first call of each allocates and optimises: not on the first frame's account."""
    detector(np.zeros((480, 640, 3), np.uint8))
    session(np.zeros((1, *session.artifact.input.shape), np.uint8))


def _status(tally: Tally, latency: Latency, faces: int, provider: str) -> str:
    return f"{tally.rate:.1f} fps   {latency.total:.0f} ms   {counted(faces, 'face')}   {provider}"


def _open_model(options: Options) -> Session:
    def opened() -> Session:
        return open_session(options.model, provider=options.provider, strict=options.strict)

    if options.model.suffix.lower() == ".engine":
        return open_or_rebuild(options.model, opened, options.rebuild)
    return opened()


def _open(options: Options) -> Source:
    """The source asked for; for the demo the bundled clip where that one does not open."""
    try:
        return open_source(options.source)
    except SourceError as error:
        if not options.demo:
            raise
        print(f"{error}\nplaying the bundled clip instead")
        return open_source(str(DEMO_CLIP))


def _staged(options: Options, source: Source) -> Options:
    """The demo without a window: everything goes into files, and a camera is watched for a while only."""
    return dataclasses.replace(
        options,
        headless=True,
        record=options.record or DEMO_FOLDER / "annotated.webm",
        still=options.still or DEMO_FOLDER / "still.png",
        max_frames=options.max_frames or (DEMO_FRAMES if source.live else None),
    )


def _open_sinks(options: Options, source: Source, stack: contextlib.ExitStack) -> list[Sink]:
    images = isinstance(source, ImageFiles)
    sinks: list[Sink] = [print_answers] if images else []
    if not options.headless:
        print("q or Esc in the window leaves" + ("; any other key shows the next image" if images else ""))
        sinks.append(stack.enter_context(window(source, one_by_one=images)))
    return sinks


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


def _report(options: Options, source: Source, session: Session, tally: Tally) -> None:
    print("\n".join(tally.summary(session.provider, source.live)))
    if source.dropped:
        print(f"note: {source.dropped} frames came while the loop was busy and were dropped")
    if source.note:
        print(f"note: {source.note}")
    for path in (options.record, options.still, options.jsonl, options.csv, options.summary):
        if path and path.exists():
            print(f"wrote {path}")
