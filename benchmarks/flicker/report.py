"""What flicker.py measured, for people: two tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.tables import markdown_table

Record = Mapping[str, Any]
HEAD = (
    *("half-life", "margin", "label changes a second", "known changes followed"),
    *("later by, mean", "right", "wrong", "uncertain"),
)
FOLLOWING = ("detection every", "time of detection", "IoU, mean", "IoU, least", "tracks", "label changes", "right")


def markdown(record: Record) -> str:
    """The setting, the sweep and what following faces does as a page."""
    film, stills, chosen = record["film"], record["stills"], record["chosen"]
    parts = [
        "# Flicker and delay",
        f"Written by `python -m benchmarks.flicker --video {film['name']} --truth ...` on {record['measured']}, with "
        f"{record['model']} (threshold {record['threshold']:.3f}). The film: {film['frames']} frames at "
        f"{film['fps']:g} a second of rendered heads, {film['changes']} true changes. They are mannequins: this tells "
        "how steady and how late names are, nothing about accuracy on people.",
        f"Label changes, `uncertain` counting as a label, are counted on {stills['count']} stills of "
        f"{stills['frames']} frames, by second and face: the film's frames at and between its changes under pixel "
        f"noise of {stills['noise']:g} of 255, exposure wavering by {stills['exposure']:.0%} and a tremble of "
        f"{stills['shake']:g} pixels (standard deviations). A true change is *known* if without smoothing the "
        f"face is called rightly in most frames until the next: {sum(record['sweep'][0]['known'])} are. *Later by* is "
        "against no smoothing. Right, wrong and uncertain are shares of the film's faces, in transitions too.",
        _sweep(record),
        f"Chosen, and the default: a half-life of {chosen['half_life']:g} s and a margin of {chosen['margin']:g}. Of "
        f"the settings that follow all known changes, later by no more than {record['allowed_delay']:g} s on average, "
        f"those count whose label changes are within {record['negligible']:g} of the fewest; of these it has the "
        "smallest margin, which leaves the threshold its meaning, and then the shortest half-life.",
        "What is less right than without smoothing is the delay, in a film in which everything changes within 1 to 2 "
        "seconds; what is less uncertain and more wrong are names that are kept a margin below the threshold.",
        "## Detection in every n-th frame",
        "Between detections faces are followed by optical flow at their landmarks. Time is the processor's for "
        "detecting or following, on one thread, over that of detection in every frame; IoU is between the boxes of "
        "both; no smoothing.",
        _following(record),
        "The default stays at every frame: these heads neither come in, which is noticed up to n - 1 frames late, nor "
        "move quickly, nor are they covered.",
    ]
    return "\n\n".join(parts) + "\n"


def _sweep(record: Record) -> str:
    rows = []
    for row in record["sweep"]:
        setting = {key: row[key] for key in ("half_life", "margin")}
        cells = (
            *(f"{row['half_life']:g} s", f"{row['margin']:g}", f"{row['flicker']:.2f}", str(row["followed"])),
            "" if row["added_delay"] is None else f"{row['added_delay']:+.3f} s",
            *(f"{row[kind]:.1%}" for kind in ("right", "wrong", "uncertain")),
        )
        rows.append(tuple(f"**{cell}**" for cell in cells) if setting == record["chosen"] else cells)
    return markdown_table(HEAD, rows)


def _following(record: Record) -> str:
    rows = record["following"]
    return markdown_table(
        FOLLOWING,
        [
            (
                *(f"{row['every']}", f"{row['milliseconds'] / rows[0]['milliseconds']:.0%}"),
                *(f"{row['overlap']:.3f}", f"{row['least_overlap']:.3f}"),
                *(str(row["tracks"]), str(row["label_changes"]), f"{row['right']:.1%}"),
            )
            for row in rows
        ],
    )
