"""One frame with what the loop found in it, and the type of the functions that take it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iern.runtime.drawing.grid import Tile, draw_grid
from iern.runtime.drawing.mirror import mirrored
from iern.runtime.drawing.overlay import draw
from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency


@dataclass(frozen=True)
class FrameResult:
    """One frame with its faces, its latency and the status of the loop."""

    frame: Frame
    faces: Sequence[Face]
    latency: Latency
    status: str
    """The loop's rate, latency and provider in words, drawn on the picture."""
    dropped: int = 0
    """Frames of a live source that the loop has dropped until now."""
    tiles: Sequence[Tile] = ()
    """What each part of the picture shows, if it is a grid of several sources."""

    def drawn(self, strata: bool = False) -> Image:
        """The frame with everything drawn. `strata` adds the probabilities under each stratum."""
        if self.tiles:
            return draw_grid(self.frame.image, self.tiles, self.faces, self.status, strata)
        return draw(self.frame.image, self.faces, self.status, strata)

    def mirrored(self) -> FrameResult:
        """The result with left and right exchanged. What is drawn on it stays readable."""
        image, faces = mirrored(self.frame.image, self.faces)
        tiles = [tile.mirrored(image.shape[1]) for tile in self.tiles]
        return dataclasses.replace(self, frame=dataclasses.replace(self.frame, image=image), faces=faces, tiles=tiles)

    @functools.cached_property
    def annotated(self) -> Image:
        """The frame with everything drawn. It is made once and shared, so do not draw on it."""
        return self.drawn()


Sink = Callable[[FrameResult], None]
"""A function that the loop calls with every result: a window, a recording, records, a page."""
