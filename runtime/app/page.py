"""Connects the page to the loop: its buttons and switches, the files of the run, and the photos that it reads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import iern
from iern.runtime.app.command_line import Options
from iern.runtime.app.frame_analyzer import FrameAnalyzer
from iern.runtime.errors import OutputError
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.serve.controls import About, RunFile
from iern.runtime.serve.server import page_server, require_libraries
from iern.runtime.serve.view import PictureView
from iern.runtime.sources.base import Source
from iern.runtime.sources.switchable import SwitchableSource
from iern.runtime.system.append_only_file import STDOUT

LOOP_TIMEOUT = 10.0
"""Seconds for which a button waits for the loop."""


@contextlib.contextmanager
def loop_page(options: Options, source: Source, recorder: RecordingSwitch, analyzer: FrameAnalyzer) -> Iterator[Sink]:
    """The sink of the page at `options.serve`, which runs until the block ends.

    Of several sources it takes the results, for records and metrics, and the grids, for the picture.
    Raises IernError if a library is missing, and OutputError if the server cannot listen on the address.
    """
    assert options.serve is not None
    require_libraries()
    from iern.runtime.service.page_photos import PagePhotos  # late: these need the libraries
    from iern.runtime.service.recognition import Recognition

    view = PictureView()
    records = [path.resolve() for path in (options.jsonl, options.csv) if path and path != STDOUT and path.is_file()]
    switchable = source if isinstance(source, SwitchableSource) else None
    controls = LoopControls(recorder, records, switchable, view, analyzer, blur_fixed=options.blur_faces)
    photos = PagePhotos(Recognition(analyzer.detector, analyzer.session))
    about = about_loop(options.model.name, analyzer)
    with page_server(options.serve, options.token, controls, view.render, about=about, photos=photos) as show:

        def sink(result: FrameResult) -> None:
            if not result.frame.source:
                view.hold(result)
            show(result)

        yield sink


def about_loop(model: str, analyzer: FrameAnalyzer) -> About:
    """What the page says about the program. `model` is the name of the model's file."""
    artifact = analyzer.session.artifact
    return About(iern.__version__, model, analyzer.provider, artifact.strata, artifact.threshold)


class LoopControls:
    """Implements `PageControls`. The loop acts at its next turn, and the caller waits for it."""

    def __init__(
        self,
        recorder: RecordingSwitch,
        records: Sequence[Path],
        switchable: SwitchableSource | None,
        view: PictureView,
        analyzer: FrameAnalyzer,
        *,
        blur_fixed: bool = False,
    ) -> None:
        """`records` are the files of records that are being written. `switchable` is None if there is only one source.

        With `blur_fixed`, everything is blurred before it reaches the page.
        """
        self._recorder = recorder
        self._records = [RunFile(path, "records", growing=True) for path in records]
        self._switchable = switchable
        self._view = view
        self._analyzer = analyzer
        self.blur_fixed = blur_fixed

    @property
    def recording(self) -> bool:
        return self._recorder.path is not None

    @property
    def sources(self) -> Sequence[str]:
        return self._switchable.names if self._switchable else ()

    @property
    def source(self) -> str:
        return self._switchable.selected if self._switchable else ""

    @property
    def files(self) -> Sequence[RunFile]:
        recordings = [RunFile(path.resolve(), "recording") for path in list(self._recorder.written)]
        return [*self._records, *recordings]

    @property
    def blur(self) -> bool:
        return self.blur_fixed or self._view.blur

    @property
    def overlay(self) -> bool:
        return self._view.overlay

    @property
    def half_life(self) -> float:
        return self._analyzer.half_life

    def start_recording(self) -> None:
        """Raises OutputError if the recording cannot begin."""
        self._recorder.wanted = True
        _wait_until(lambda: self.recording or not self._recorder.wanted, "begin the recording")
        if not self.recording:
            raise OutputError(self._recorder.failure)

    def stop_recording(self) -> None:
        """Raises OutputError if the recording failed on its last frames."""
        before = self._recorder.failure
        self._recorder.wanted = False
        _wait_until(lambda: not self.recording, "finish the recording")
        if self._recorder.failure != before:
            raise OutputError(self._recorder.failure)

    def select_source(self, name: str) -> None:
        """Raises SourceError if the source cannot be opened."""
        assert self._switchable is not None
        self._switchable.select(name)

    def set_blur(self, on: bool) -> None:
        self._view.blur = on

    def set_overlay(self, on: bool) -> None:
        self._view.overlay = on

    def set_half_life(self, seconds: float) -> None:
        self._analyzer.half_life = seconds


def _wait_until(done: Callable[[], bool], action: str) -> None:
    end = time.monotonic() + LOOP_TIMEOUT
    while not done():
        if time.monotonic() > end:
            raise OutputError(f"the loop did not {action} within {LOOP_TIMEOUT:g} s; see what the loop printed")
        time.sleep(0.02)
