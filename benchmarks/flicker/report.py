"""What `python -m benchmarks.flicker` measured: a page with a table."""

from __future__ import annotations

from benchmarks.common.results import Results
from iern.train.evaluation.markdown import markdown_table

HEAD = (
    *("half-life", "margin", "label changes a second", "known changes followed"),
    *("later by, mean", "right", "wrong", "uncertain"),
)


def markdown(results: Results) -> str:
    """The setting and the sweep, as a page."""
    video, stills, best = results["film"], results["stills"], results["chosen"]
    parts = [
        "# Flicker and delay",
        f"Written by `python -m benchmarks.flicker --video {video['name']} --truth ...` on {results['measured']}, with "
        f"{results['model']} (threshold {results['threshold']:.3f}). The video: {video['frames']} frames at "
        f"{video['fps']:g} a second of rendered heads, {video['changes']} true changes. The heads are mannequins: this "
        "measures how steady and how late labels are, not the accuracy on people.",
        f"Label changes, `uncertain` counting as a label, are counted on {stills['count']} stills of "
        f"{stills['frames']} frames, by second and face: the video's frames at and between its changes with pixel "
        f"noise of {stills['noise']:g} of 255, an exposure that varies by {stills['exposure']:.0%} and movement of "
        f"{stills['shake']:g} pixels (standard deviations). A true change is *known* if without smoothing the face "
        f"has the right label in most frames until the next: {sum(results['sweep'][0]['known'])} are. *Later by* is "
        "compared with no smoothing. Right, wrong and uncertain are shares of the video's faces, in transitions too.",
        _sweep(results),
        f"The best setting, and the default: a half-life of {best['half_life']:g} s and a margin of {best['margin']:g}."
        f" It follows all known changes, later by at most {results['allowed_delay']:g} s on average, and its label "
        f"changes are within {results['negligible']:g} of the fewest. Of such settings it has the smallest margin, "
        "because a margin moves the threshold, and then the shortest half-life.",
        "Smoothing lowers the share that is right by its delay: in this video everything changes within 1 to 2 seconds."
        " It lowers the share that is uncertain and raises the share that is wrong because labels are kept up to a "
        "margin below the threshold.",
    ]
    return "\n\n".join(parts) + "\n"


def _sweep(results: Results) -> str:
    rows = []
    for row in results["sweep"]:
        setting = {key: row[key] for key in ("half_life", "margin")}
        cells = (
            *(f"{row['half_life']:g} s", f"{row['margin']:g}", f"{row['flicker']:.2f}", str(row["followed"])),
            "" if row["added_delay"] is None else f"{row['added_delay']:+.3f} s",
            *(f"{row[kind]:.1%}" for kind in ("right", "wrong", "uncertain")),
        )
        rows.append(tuple(f"**{cell}**" for cell in cells) if setting == results["chosen"] else cells)
    return markdown_table(HEAD, rows)
