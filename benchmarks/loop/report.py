"""What `python -m benchmarks.loop` measured, as a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.common.results import Results
from benchmarks.loop.figures import STAGES, Ratio, cpu, find, p50, p95, ratio
from benchmarks.loop.stages import STAGES as WHOLE_LOOP
from iern.train.evaluation.markdown import markdown_table

MEANING = (
    "Frames come as raw pixels through a pipe, from memory, and a contestant gets its next frame when it has answered "
    "the last one. Milliseconds of a frame: *detect*, *crop* and *model* (p50), *frame* is their sum as the contestant "
    "measures it (p50 and p95), and *with pipe* is from the first byte of the frame to the end of its record (p50). "
    "*Processor seconds* are user and system time of all threads for one second of video, {fps} frames: a measure of "
    "energy. *Less* is how many times as much {reference} takes: the median of the ratios of {seconds} rounds of one "
    "second, in which the contestants take turns, and in brackets their range."
)


def markdown(results: Results) -> str:
    """The goals, a table for each clip, the stages of this loop, what a frame calls, and how each contestant ran."""
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        "# The loop and its rivals",
        "**A quick run: these numbers mean nothing.**" if results["quick"] else "",
        f"{machine['cpu']}, cores {machine['cores']}, {machine['system']}, {results['measured']}. {packages}. Written "
        "by `python -m benchmarks.loop`.",
        _busy(machine),
        MEANING.format(fps=results["fps"], reference=f"`{results['reference']}`", seconds=results["seconds"]),
        *_goals(results),
        *(
            f"## {_heading(clip)}\n\n{clip_table(clip, results['reference'])}{_joules(clip, results['fps'])}"
            for clip in results["clips"]
        ),
        "## Stages of this loop",
        f"The bundled clip from its file, in one thread, {results['stages_frames']} frames, milliseconds.",
        stages_table(results["stages"]),
        "## What a frame calls",
        "Counted, not timed, over the frames of each clip. A test holds these numbers. Runs and pixels are means for a "
        "frame. *Pictures* are those that OpenCV makes; *peak* is the most memory that a frame held, in the median "
        "frame.",
        counts_table(results["counts"]),
        "## How each ran",
        markdown_table(("contestant", "how"), [(each["name"], each["how"]) for each in results["contestants"]]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def clip_table(clip: Results, reference: str) -> str:
    """One row for each contestant."""
    compared = find(clip, reference)
    rows = []
    for played in clip["contestants"]:
        stages = [_stage(played, stage) for stage in STAGES]
        frames = np.concatenate(played["total"])
        times = [*np.percentile(frames, (50, 95)), np.median(np.concatenate(played["answer"]))]
        ratios = [_ratio(ratio(cost(compared), cost(played))) if compared else "" for cost in (p50, p95, cpu)]
        seconds = f"{np.mean(played['cpu_seconds']):.3f}"
        cells = (*stages, *map(_milliseconds, times), *ratios[:2], seconds, ratios[2])
        rows.append((played["name"], f"{played['faces']:.2f}", *cells))
    head = ("contestant", "faces a frame", *STAGES.values(), "frame, p50", "p95", "with pipe")
    return markdown_table((*head, "less, p50", "less, p95", "processor seconds", "less"), rows, left=1)


def stages_table(stages: Results) -> str:
    """One row for each stage."""
    rows = [
        (name, what, _milliseconds(stages[name]["p50"]), _milliseconds(stages[name]["p95"]))
        for name, what in WHOLE_LOOP.items()
    ]
    return markdown_table(("stage", "what it gives", "p50", "p95"), rows, left=2)


def counts_table(counts: Sequence[Results]) -> str:
    """One row for each clip."""
    keys = ("faces", "model_runs", "model_faces", "detector_runs")
    rows = []
    for each in counts:
        frames = each["frames"]
        megabytes = (each["picture_bytes"] / frames / 1e6, each["peak_bytes"] / 1e6)
        rows.append(
            (
                each["clip"],
                *(f"{each[key] / frames:.2f}" for key in keys),
                f"{each['detector_pixels'] / frames:,.0f}",
                f"{each['pictures'] / frames:.1f}",
                *(f"{value:.2f}" for value in megabytes),
            )
        )
    head = ("clip", "faces", "model runs", "faces in the model", "detector runs", "pixels searched", "pictures")
    return markdown_table((*head, "MB of pictures", "peak, MB"), rows, left=1)


def _goals(results: Results) -> list[str]:
    if not results["goals"]:
        return []
    lines = []
    for goal in results["goals"]:
        times, at_least = Ratio(*goal["ratio"]), goal["at_least"]
        verdict = "Met" if goal["met"] else "Not met"
        lines.append(
            f"- {verdict}: on the clip `{goal['clip']}`, {goal['what']} of the rival is {_ratio(times)} times ours; "
            f"the goal is at least {at_least:g}."
        )
    return ["## Goals", "\n".join(lines)]


def _joules(clip: Results, fps: int) -> str:
    """What the machine's counters of energy say, for each contestant. Empty without one."""
    lines = [
        f"- {played['name']}: " + ", ".join(f"{name} {np.mean(each) / fps:.3f}" for name, each in joules.items())
        for played in clip["contestants"]
        if (joules := played.get("joules"))
    ]
    return "\n".join(["", "", "Joules a frame, of all that a counter measures:", "", *lines]) if lines else ""


def _heading(clip: Results) -> str:
    width, height = clip["size"]
    return f"Clip `{clip['name']}`, {width} x {height}"


def _busy(machine: Results) -> str:
    if machine["load"] <= 0.5:
        return ""
    return (
        f"**The machine was busy: {machine['load']:.1f} processes wanted to run before this one began. Ratios are less "
        "certain, and milliseconds are those of a slower machine.**"
    )


def _stage(played: Results, stage: str) -> str:
    rounds = played["stages"].get(stage)
    return _milliseconds(float(np.median(rounds))) if rounds else ""


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ratio(found: Ratio) -> str:
    return f"{found.median:.2f} ({found.lowest:.2f} to {found.highest:.2f})"
