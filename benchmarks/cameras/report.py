"""What `python -m benchmarks.cameras` measured, as a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common.results import Results
from iern.train.evaluation.markdown import markdown_table

HEAD = (
    *("cameras", "processes", "frames/s of the slowest camera", "dropped", "age, ms (p50, p99)"),
    *("processor s a second of video", "memory, MB"),
)


def combined(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several runs of one set-up: medians, and the ages of all frames together."""
    ages = sorted(age for run in runs for age in run["age_ms"])
    slowest = [min(run["fps"]) for run in runs]
    return {
        **{key: runs[0][key] for key in ("cameras", "processes")},
        "runs": len(runs),
        "slowest_fps": statistics.median(slowest),
        "dropped_share": sum(sum(run["dropped"]) for run in runs)
        / max(1, sum(sum(run["dropped"]) + sum(run["fps"]) * run["seconds"] for run in runs)),
        "age_ms": {"p50": _percentile(ages, 50), "p99": _percentile(ages, 99)},
        "cpu_seconds_per_second_of_video": statistics.median(run["cpu_seconds_per_second_of_video"] for run in runs),
        "memory_mb": statistics.median(run["memory_mb"] for run in runs),
    }


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def markdown(results: Results) -> str:
    """The page."""
    machine = results["machine"]
    return "\n\n".join(
        (
            "# Many cameras on one machine",
            f"{results['measured']}, {machine['processor']}, cores {machine['cores']}. Written by "
            f"`{results['command']}`.",
            f"Each camera plays the bundled clip, 640x480 with one face, at {results['fps']:g} frames a second over "
            "HTTP, as Motion JPEG. The loop runs with `--headless --jsonl`, in one process for all cameras or in one "
            f"for each, in turns, for {results['seconds']:g} s a turn. The processor time is that of all its threads, "
            "with decoding.",
            markdown_table(HEAD, [row(figures) for figures in results["figures"]]),
            "**Run with --quick: too short for more than a look.**\n" if results["quick"] else "",
        )
    )


def row(figures: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one set-up."""
    age = figures["age_ms"]
    ages = "none" if age["p50"] is None else f"{age['p50']:.0f}, {age['p99']:.0f}"
    return (
        *(str(figures["cameras"]), str(figures["processes"]), f"{figures['slowest_fps']:.1f}"),
        *(f"{figures['dropped_share']:.1%}", ages),
        *(f"{figures['cpu_seconds_per_second_of_video']:.3f}", f"{figures['memory_mb']:.0f}"),
    )
