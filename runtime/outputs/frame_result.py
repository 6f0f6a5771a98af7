"""One frame with what the loop found in it, and what everything that takes such frames looks like."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iern.runtime.drawing.overlay import draw
from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency


@dataclass(frozen=True)
class FrameResult:
    """One frame with what the loop found in it."""

    frame: Frame
    faces: Sequence[Face]
    latency: Latency
    status: str
    dropped: int = 0
    """Frames of a live source that nobody took in time, until now."""

    def drawn(self, strata: bool = False) -> Image:
        """The frame with everything drawn, and with `strata` the answer under each stratum as well."""
        return draw(self.frame.image, self.faces, self.status, strata)

    @functools.cached_property
    def annotated(self) -> Image:
        """The frame with everything drawn, made once for all who want it: not to be drawn on."""
        return self.drawn()


Sink = Callable[[FrameResult], None]
"""What the loop calls with every view: a window, a recording, records, a page."""
