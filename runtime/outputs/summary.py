"""Writes one page about a session, in one file that needs no other, or its totals as JSON: `--summary`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iern.runtime.drawing.overlay import PALETTE
from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.session_stats import Seconds, SessionStats, bin_start
from iern.runtime.system.files import write_errors, write_text

if TYPE_CHECKING:
    from iern.runtime.power.energy import Energy

WIDTH, BAR, CHART = 960, 22, 180
"""Width of a chart, height of a bar and height of a chart, in pixels."""
GREY = "#9a9a9a"
LATENCY_SHARES = (50, 99)
"""Percentages of the frames for which the longest latency is given."""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Session</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; } text { font: 13px system-ui, sans-serif; fill: currentColor; }
table { border-collapse: collapse; } td, th { padding: .1rem 1.2rem .1rem 0; text-align: left; }
i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
.key span { margin-right: 1.2em; white-space: nowrap; }
</style></head><body>
"""


@contextlib.contextmanager
def session_summary(path: Path, energies: Callable[[], Sequence[Energy]] = tuple) -> Iterator[Sink]:
    """Write the page when the block ends, also if an error ends it. Without frames there is no page.

    Several sources have a part of the page each. `energies` is called at the end. A path that ends in .json gets the
    totals instead of a page.

    Raises OutputError if it cannot be written.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)  # if the folder cannot be used, fail before the first frame
    sessions: dict[str, SessionStats] = {}

    def add(result: FrameResult) -> None:
        sessions.setdefault(result.frame.source, SessionStats()).add(result)

    try:
        yield add
    finally:
        if sessions:
            parts = [sessions[name] for name in sorted(sessions)]
            if path.suffix.lower() == ".json":
                text = json.dumps(summary_dict(parts, energies()), indent=2, ensure_ascii=False) + "\n"
            else:
                text = summary_html(*parts, energies=energies())
            write_text(path, _as_text(text))


def summary_html(*sessions: SessionStats, energies: Sequence[Energy] = ()) -> str:
    """The page as HTML, with a part for each source.

    Style and charts are inside; there is no script and no link to another file or site.
    """
    return "".join((HEAD, *map(_part, sessions), _energy(energies), "</body></html>\n"))


def summary_dict(sessions: Sequence[SessionStats], energies: Sequence[Energy] = ()) -> dict[str, Any]:
    """The totals of each source, and the energy of the run, as plain types."""
    return {
        "sources": [
            {
                "source": stats.source,
                "started": stats.start,
                "seconds": stats.elapsed,
                "frames": stats.frames,
                "dropped": stats.dropped,
                "faces": stats.faces,
                "expression_seconds": dict(stats.seconds),
                "latency_ms_at_most": {f"p{share}": _percentile(stats.latencies, share) for share in LATENCY_SHARES},
            }
            for stats in sessions
        ],
        "energy": [energy.to_dict() for energy in energies],
    }


def _part(stats: SessionStats) -> str:
    """The part of the page about one source."""
    colours = {name: _css(PALETTE[place % len(PALETTE)]) for place, name in enumerate(stats.expressions)}
    colours[UNCERTAIN] = GREY
    key = "".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items())
    rows = {"whole session": stats.seconds, **stats.tracks} if len(stats.tracks) > 1 else stats.tracks
    return "".join(
        (
            f"<h1>{escape(stats.source)}</h1>\n",
            _table(_counts(stats)),
            "<h2>Time per expression</h2>\n",
            _table([(name, f"{seconds:.1f} s") for name, seconds in _sorted(stats.seconds)] or [("no face", "")]),
            f"<h2>Time per face</h2>\n<p class=key>{key}</p>\n" if rows else "",
            _bars(rows, colours),
            f"<h2>Timeline</h2>\n<p>Share of each expression among the faces, in steps of {stats.step:g} s. "
            "Steps without a face are empty.</p>\n"
            if rows
            else "",
            _timeline(stats, colours),
            "<h2>Latency</h2>\n<p>Number of frames by the time that the loop needed for a frame.</p>\n",
            _histogram(stats.latencies),
        )
    )


def _energy(energies: Sequence[Energy]) -> str:
    """The part of the page about the energy. Empty without a sensor."""
    if not energies:
        return ""
    rows = [(energy.name, energy.text()) for energy in energies]
    return "<h2>Energy</h2>\n<p>Of the whole part of the machine that a sensor measures.</p>\n" + _table(rows)


def _css(colour: tuple[int, int, int]) -> str:
    blue, green, red = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def _counts(stats: SessionStats) -> list[tuple[str, str]]:
    rate = f"{(stats.frames - 1) / stats.elapsed:.1f} a second" if stats.elapsed else ""
    return [
        ("started", stats.start),
        ("lasted", f"{stats.elapsed:.1f} s"),
        ("frames", f"{stats.frames} {rate and f'({rate})'}"),
        ("frames dropped", str(stats.dropped)),
        ("faces in all frames", str(stats.faces)),
        *(
            (f"latency, {share} % of the frames", f"up to {_percentile(stats.latencies, share):.3g} ms")
            for share in LATENCY_SHARES
        ),
    ]


def _percentile(latencies: dict[int, int], percent: int) -> float:
    """The milliseconds within which `percent` of the frames were, rounded up to the end of a bin."""
    needed, seen = percent / 100 * sum(latencies.values()), 0
    for number, count in sorted(latencies.items()):
        seen += count
        if seen >= needed:
            return bin_start(number + 1)
    return 0.0


def _sorted(seconds: Seconds) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>\n"


def _bars(rows: dict[str, Seconds], colours: dict[str, str]) -> str:
    """A bar for each face: how long each expression was seen, all on one scale."""
    if not rows:
        return ""
    longest = max(sum(seconds.values()) for seconds in rows.values()) or 1.0
    scale, shapes = (WIDTH - 220) / longest, []
    for place, (name, seconds) in enumerate(rows.items()):
        x, y = 140.0, place * (BAR + 6)
        shapes.append(f'<text x="0" y="{y + 16}">{escape(name)}</text>')
        for expression, value in _sorted(seconds):
            shapes.append(_rectangle(x, y, value * scale, BAR, colours[expression], f"{expression}: {value:.1f} s"))
            x += value * scale
        shapes.append(f'<text x="{x + 8:.1f}" y="{y + 16}">{sum(seconds.values()):.1f} s</text>')
    return _svg(len(rows) * (BAR + 6), shapes)


def _timeline(stats: SessionStats, colours: dict[str, str]) -> str:
    if not stats.timeline:
        return ""
    steps = max(1, int(stats.elapsed / stats.step) + 1)
    width, shapes = WIDTH / steps, []
    for number, seconds in sorted(stats.timeline.items()):
        y, total = 0.0, sum(seconds.values()) or 1.0
        for expression, colour in colours.items():
            height = CHART * seconds.get(expression, 0.0) / total
            title = f"{number * stats.step:g} s: {expression} {100 * height / CHART:.0f} %"
            shapes += [_rectangle(number * width, y, width, height, colour, title)] if height else []
            y += height
    shapes += [_label(0, CHART + 18, "0 s"), _label(WIDTH - 60, CHART + 18, f"{stats.elapsed:.0f} s")]
    return _svg(CHART + 24, shapes)


def _histogram(latencies: dict[int, int]) -> str:
    first, last = min(latencies), max(latencies)
    width, most, shapes = WIDTH / max(8, last - first + 1), max(latencies.values()), []
    for number in range(first, last + 1):
        count, x = latencies.get(number, 0), (number - first) * width
        height = CHART * count / most
        title = f"{bin_start(number):.3g} to {bin_start(number + 1):.3g} ms: {count}"
        shapes.append(_rectangle(x + 1, CHART - height, width - 2, height, "#5a8fd6", title))
        shapes.append(_label(x + 2, CHART + 18, f"{bin_start(number):.3g}"))
    return _svg(CHART + 24, [*shapes, _label(WIDTH - 24, CHART + 18, "ms")])


def _svg(height: float, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}">{"".join(shapes)}</svg>\n'


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str, title: str) -> str:
    place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect {place} fill="{colour}"><title>{escape(title)}</title></rect>'


def _as_text(page: str) -> str:
    """The page with what is no text, bytes of a file's name, replaced."""
    return page.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
