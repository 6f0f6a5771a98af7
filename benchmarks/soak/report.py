"""What `python -m benchmarks.soak` measured: figures, the limits that they break, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common.results import Results
from iern.train.evaluation.markdown import markdown_table

WARM_UP = 5 * 60.0
"""Seconds that are not counted, while libraries fill their caches."""
LONG_ENOUGH = 20.0
"""Minutes; in a shorter run, memory and drift are not checked."""

MEMORY_GROWTH = 0.01
"""Allowed growth, as a share of the memory after the warm-up."""
DRIFT = 1.25
"""Allowed p99 of the latency in the last tenth, over that in the first."""
WAIT_MS = 500.0
"""Allowed p99 of a frame's age, besides twice that of the latency: a frame waits for the one before it at most."""

Samples = Sequence[Mapping[str, float]]


def figures(samples: Samples, frames: Samples) -> dict[str, Any]:
    """Figures of the process and of the analysed frames in the first and the last tenth, both in order of `seconds`.

    The tenths are of the time after the warm-up. In a short run the warm-up is a fifth of it.
    """
    end = samples[-1]["seconds"] if samples else 0.0
    begin = min(WARM_UP, end / 5)
    tenth = (end - begin) / 10
    return {
        "warm_up_seconds": begin,
        "first": _tenth(samples, frames, begin, begin + tenth),
        "last": _tenth(samples, frames, end - tenth, end + 1),
        "frames": len(frames),
        "most_faces": max((int(frame["faces"]) for frame in frames), default=0),
        "longest_gap_seconds": _longest_gap([frame["seconds"] for frame in frames], end),
        "samples": [{key: round(value, 2) for key, value in sample.items()} for sample in samples],
    }


def _tenth(samples: Samples, frames: Samples, begin: float, end: float) -> dict[str, Any]:
    """The median memory, and the fewest threads and handles: what leaks is in every sample."""
    samples, frames = ([row for row in rows if begin <= row["seconds"] < end] for rows in (samples, frames))
    return {
        "memory_mb": float(np.median([sample["memory"] for sample in samples])) if samples else None,
        "threads": min((int(sample["threads"]) for sample in samples), default=None),
        "handles": min((int(sample["handles"]) for sample in samples), default=None),
        "frames": len(frames),
        "latency_ms": _percentiles([frame["total"] for frame in frames]),
        "age_ms": _percentiles([frame["age"] for frame in frames]),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 99)} if values else None


def _longest_gap(seconds: Sequence[float], end: float) -> float:
    return round(float(np.diff([0.0, *seconds, end]).max()), 1) if seconds else end


def broken_limits(results: Results) -> list[str]:
    """One sentence for each limit that is broken. In a short run, memory and drift are not checked."""
    first, last, ending = results["first"], results["last"], results["ending"]
    found = []
    if ending["early"]:
        found.append(f"the loop ended too early, with status {ending['status']}: {' '.join(ending['said'][-1:])}")
    elif ending["status"] != 0:
        found.append(f"the loop ended with status {ending['status']} after SIGTERM, expected 0")
    if not first["frames"] or not last["frames"]:
        return [*found, f"{first['frames']} frames were analysed in the first tenth and {last['frames']} in the last"]
    if not results["recorded_megabytes"]:
        found.append("there is no recording")
    gap, allowed = results["longest_gap_seconds"], 1.5 * results["seconds_a_round"]
    if gap > allowed:
        found.append(f"no frame was analysed for {gap:.0f} s, expected at most {allowed:.0f} s")
    leaks = [what for what in ("threads", "handles") if last[what] > first[what]]
    found += [f"{what} grew from {first[what]} to {last[what]}" for what in leaks]
    oldest = WAIT_MS + 2 * last["latency_ms"]["p99"]
    if last["age_ms"]["p99"] > oldest:
        found.append(f"frames grew {last['age_ms']['p99']:.0f} ms old, expected at most {oldest:.0f} ms")
    if results["minutes"] < LONG_ENOUGH:
        return found
    growth = last["memory_mb"] / first["memory_mb"] - 1
    if growth > MEMORY_GROWTH:
        found.append(f"memory grew by {growth:.1%}, expected at most {MEMORY_GROWTH:.0%}")
    drift = last["latency_ms"]["p99"] / first["latency_ms"]["p99"]
    if drift > DRIFT:
        found.append(f"the latency's p99 grew to {drift:.2f} times its first, expected at most {DRIFT:g}")
    return found


def markdown(results: Results) -> str:
    """The run as a page."""
    machine, ending = results["machine"], results["ending"]
    verdict = "\n".join(f"- {limit}" for limit in results["broken"]) or "No limit is broken."
    short = results["minutes"] < LONG_ENOUGH
    tenths = [results["first"], results["last"]]
    rows = [
        ("memory, MB (median)", *(_shown(tenth["memory_mb"]) for tenth in tenths)),
        ("threads (fewest)", *(str(tenth["threads"]) for tenth in tenths)),
        ("file handles (fewest)", *(str(tenth["handles"]) for tenth in tenths)),
        ("frames analysed", *(str(tenth["frames"]) for tenth in tenths)),
        ("latency, ms (p50, p99)", *(_pair(tenth["latency_ms"]) for tenth in tenths)),
        ("age of a frame after its analysis, ms (p50, p99)", *(_pair(tenth["age_ms"]) for tenth in tenths)),
    ]
    parts = [
        "# The loop over time",
        f"{results['minutes']:g} minutes, {results['measured']}, cores {machine['cores']}, {machine['system']}, Python "
        f"{machine['python']}. Written by `python -m benchmarks.soak --minutes {results['minutes']:g}`.",
        "The camera plays, changes its size, is black, freezes, hangs, closes the connection and is down, in rounds "
        f"of {results['seconds_a_round']:g} s. The tenths are of the time after "
        f"{results['warm_up_seconds']:.0f} s of warm-up.",
        "**The run is too short to check memory and drift.**" if short else "",
        markdown_table(("", "first tenth", "last tenth"), rows),
        f"{results['frames']} frames, up to {results['most_faces']} faces in one; the longest time without an analysed "
        f"frame was {results['longest_gap_seconds']:g} s. {results['recorded_megabytes']:.0f} MB were recorded. The "
        f"loop ended with status {ending['status']}.",
        verdict,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _pair(values: Mapping[str, float] | None) -> str:
    return "none" if values is None else f"{values['p50']:.1f}, {values['p99']:.1f}"
