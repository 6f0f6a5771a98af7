"""What soak.py saw of the loop: its figures, the limits they break, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common.tables import markdown_table

WARM_UP = 5 * 60.0
"""Seconds that do not count: libraries fill their caches."""
LONG_ENOUGH = 20.0
"""Minutes from which on memory and drift can be judged."""

MEMORY_GROWTH = 0.01
"""Of the memory after the warm-up."""
DRIFT = 1.25
"""p99 of the latency in the last tenth over that in the first."""
WAIT_MS = 500.0
"""p99 of a frame's age may be this and twice that of the latency: a frame waits for the one before it, no longer."""

Samples = Sequence[Mapping[str, float]]


def figures(samples: Samples, answers: Samples) -> dict[str, Any]:
    """Looks at the process and answered frames, both in order of `seconds` -> their figures in both tenths.

    The tenths are those of the time after the warm-up, which is a fifth of a run that is short.
    """
    end = samples[-1]["seconds"] if samples else 0.0
    begin = min(WARM_UP, end / 5)
    tenth = (end - begin) / 10
    return {
        "warm_up_seconds": begin,
        "first": _tenth(samples, answers, begin, begin + tenth),
        "last": _tenth(samples, answers, end - tenth, end + 1),
        "frames": len(answers),
        "most_faces": max((int(answer["faces"]) for answer in answers), default=0),
        "longest_gap_seconds": _longest_gap([answer["seconds"] for answer in answers], end),
        "samples": [{key: round(value, 2) for key, value in sample.items()} for sample in samples],
    }


def _tenth(samples: Samples, answers: Samples, begin: float, end: float) -> dict[str, Any]:
    """Memory is the median; of threads and handles the fewest, for what leaks is there at every look."""
    looks, frames = ([row for row in rows if begin <= row["seconds"] < end] for rows in (samples, answers))
    return {
        "memory_mb": float(np.median([look["memory"] for look in looks])) if looks else None,
        "threads": min((int(look["threads"]) for look in looks), default=None),
        "handles": min((int(look["handles"]) for look in looks), default=None),
        "frames": len(frames),
        "latency_ms": _percentiles([frame["total"] for frame in frames]),
        "age_ms": _percentiles([frame["age"] for frame in frames]),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 99)} if values else None


def _longest_gap(seconds: Sequence[float], end: float) -> float:
    return round(float(np.diff([0.0, *seconds, end]).max()), 1) if seconds else end


def broken_limits(record: Mapping[str, Any]) -> list[str]:
    """What is not as it must be, in words; of a short run neither memory nor drift is judged."""
    first, last, ending = record["first"], record["last"], record["ending"]
    found = []
    if ending["early"]:
        found.append(f"the loop ended before its time, with status {ending['status']}: {' '.join(ending['said'][-1:])}")
    elif ending["status"] != 0:
        found.append(f"the loop ended with status {ending['status']} after SIGTERM, expected 0")
    if not first["frames"] or not last["frames"]:
        return [*found, f"{first['frames']} frames were answered in the first tenth and {last['frames']} in the last"]
    if not record["recorded_megabytes"]:
        found.append("there is no recording")
    gap, allowed = record["longest_gap_seconds"], 1.5 * record["seconds_a_round"]
    if gap > allowed:
        found.append(f"no frame was answered for {gap:.0f} s, expected at most {allowed:.0f} s")
    leaks = [what for what in ("threads", "handles") if last[what] > first[what]]
    found += [f"{what} grew from {first[what]} to {last[what]}" for what in leaks]
    oldest = WAIT_MS + 2 * last["latency_ms"]["p99"]
    if last["age_ms"]["p99"] > oldest:
        found.append(f"frames grew {last['age_ms']['p99']:.0f} ms old, expected at most {oldest:.0f} ms")
    if record["minutes"] < LONG_ENOUGH:
        return found
    growth = last["memory_mb"] / first["memory_mb"] - 1
    if growth > MEMORY_GROWTH:
        found.append(f"memory grew by {growth:.1%}, expected at most {MEMORY_GROWTH:.0%}")
    drift = last["latency_ms"]["p99"] / first["latency_ms"]["p99"]
    if drift > DRIFT:
        found.append(f"the latency's p99 grew to {drift:.2f} times its first, expected at most {DRIFT:g}")
    return found


def markdown(record: Mapping[str, Any]) -> str:
    """The run as a page."""
    machine, ending = record["machine"], record["ending"]
    verdict = "\n".join(f"- {limit}" for limit in record["broken"]) or "No limit is broken."
    short = record["minutes"] < LONG_ENOUGH
    tenths = [record["first"], record["last"]]
    rows = [
        ("memory, MB (median)", *(_shown(tenth["memory_mb"]) for tenth in tenths)),
        ("threads (fewest)", *(str(tenth["threads"]) for tenth in tenths)),
        ("file handles (fewest)", *(str(tenth["handles"]) for tenth in tenths)),
        ("frames answered", *(str(tenth["frames"]) for tenth in tenths)),
        ("latency, ms (p50, p99)", *(_pair(tenth["latency_ms"]) for tenth in tenths)),
        ("age of a frame at its answer, ms (p50, p99)", *(_pair(tenth["age_ms"]) for tenth in tenths)),
    ]
    parts = [
        "# The loop over time",
        f"{record['minutes']:g} minutes, {record['measured']}, cores {machine['cores']}, {machine['system']}, Python "
        f"{machine['python']}. Written by `python -m benchmarks.soak --minutes {record['minutes']:g}`.",
        "The camera plays, changes its size, is black, freezes, hangs, closes the connection and is down, in rounds "
        f"of {record['seconds_a_round']:g} s. The tenths are those after {record['warm_up_seconds']:.0f} s of warm-up.",
        "**Too short a run to judge memory and drift.**" if short else "",
        markdown_table(("", "first tenth", "last tenth"), rows),
        f"{record['frames']} frames, up to {record['most_faces']} faces in one; the longest time without an answer was "
        f"{record['longest_gap_seconds']:g} s. {record['recorded_megabytes']:.0f} MB were recorded. The loop ended "
        f"with status {ending['status']}.",
        verdict,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _pair(values: Mapping[str, float] | None) -> str:
    return "none" if values is None else f"{values['p50']:.1f}, {values['p99']:.1f}"
