"""Shows several sources as one picture: a sink of their results that passes a grid of the newest frames on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from iern.runtime.drawing.grid import Tile, darken_tile, draw_tile, empty_grid, tiles_of
from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.group import SourceGroup
from iern.runtime.system.latency import LoopStats

SHORTEST_INTERVAL = 1 / 30
"""Least seconds between two grids of live sources. Each source adds its frames, and no viewer sees more grids."""


class Grid:
    """A sink of the results of all sources. `sinks` get a result whose picture has a tile for each source.

    Live sources are shown as they come, at the pace of the clock. Of files each picture shows all frames of one time.
    The size of the picture does not change. The loop calls `update` in each iteration, so that a tile shows at once
    that its source is lost.
    """

    def __init__(
        self, group: SourceGroup, stats: LoopStats, sinks: Sequence[Sink], wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """`stats` has the rate of each source. While `wanted()` is false no picture is made."""
        self._group, self._stats, self._sinks, self._wanted = group, stats, sinks, wanted
        self._newest: dict[str, FrameResult] = {}
        self._fresh: set[str] = set()
        """The sources with a result that was not drawn yet."""
        self._tiles: dict[str, Tile] = {}
        self._faces: dict[str, Sequence[Face]] = dict.fromkeys(group.members, ())
        self._dark: set[str] = set()
        """The sources whose tile shows that its picture is an old one."""
        self._canvas: Image | None = None
        self._last: FrameResult | None = None
        self._count = 0
        self._start = self._shown = 0.0

    def __call__(self, result: FrameResult) -> None:
        """Take a result of one source."""
        source = result.frame.source
        if not self._group.live and source in self._fresh:  # it begins another time
            self._show()
        self._newest[source] = self._last = result
        self._fresh.add(source)
        self.update()

    def update(self) -> None:
        """Show the grid if one is due: a live source has a new frame, is lost, or has come back."""
        if self._group.live and time.monotonic() - self._shown >= SHORTEST_INTERVAL:
            lost = {name for name, member in self._group.members.items() if _is_lost(member)}
            if self._fresh or lost - self._dark:
                self._show()

    def finish(self) -> None:
        """Show the last results that wait."""
        if self._fresh:
            self._show()

    def _show(self) -> None:
        if self._last is None or not self._wanted():
            return
        canvas, now = self._drawn(self._last), time.monotonic()
        self._start = self._start or now
        seconds = now - self._start if self._group.live else min(self._newest[name].frame.time for name in self._fresh)
        tiles = [self._captioned(name) for name in self._group.members]
        faces = [face for name in self._group.members for face in self._faces[name]]
        frame = Frame(canvas.copy(), seconds, self._count, self._group.name, self._last.frame.captured)
        result = dataclasses.replace(self._last, frame=frame, faces=faces, tiles=tiles, dropped=self._stats.dropped)
        self._fresh, self._shown, self._count = set(), now, self._count + 1
        for sink in self._sinks:
            sink(result)

    def _drawn(self, result: FrameResult) -> Image:
        """The grid with the newest frame of each source. `result` is the last one."""
        members = self._group.members
        if self._canvas is None:
            self._tiles = dict(zip(members, tiles_of(len(members), result.frame.image), strict=True))
            self._canvas = empty_grid(list(self._tiles.values()))
        for name in self._fresh:
            newest = self._newest[name]
            self._faces[name] = draw_tile(self._canvas, self._tiles[name], newest.frame.image, newest.faces)
        self._dark -= self._fresh
        for name in [name for name, member in members.items() if _is_lost(member) and name not in self._dark]:
            darken_tile(self._canvas, self._tiles[name])
            self._dark.add(name)
            self._faces[name] = ()
        return self._canvas

    def _captioned(self, name: str) -> Tile:
        member, faces = self._group.members[name], len(self._faces[name])
        return dataclasses.replace(self._tiles[name], source=name, state=self._state_of(name, member), faces=faces)

    def _state_of(self, name: str, member: Source) -> str:
        """What the caption of a source's tile has besides its name."""
        if _is_lost(member):
            return member.state if not member.problem else f"{member.state}: {member.problem}"
        return f"{self._stats.of(name).rate:.1f} fps" if name in self._newest else "no frame yet"


def _is_lost(source: Source) -> bool:
    return source.state != "live"
