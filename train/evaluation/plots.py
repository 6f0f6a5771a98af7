"""The figure of an evaluation, as a paper prints it: the confusion matrix, and recalls with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from iern.runtime.errors import IernError
from iern.runtime.system.files import atomic_path

WIDTH = 7.0
"""Inches: a page of two columns. The text then has the size of captions, 8 points."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "pdf.fonttype": 42,  # text stays text: publishers refuse the other kind, Type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "iern",  # the same figures give the same file
}
COLOURS = ("#0072b2", "#d55e00")
"""Blue and vermilion of Okabe and Ito, which colour-blind readers tell apart; a marker's shape says the same."""
MARKERS = ("o", "s")
NO_DATE: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""Suffix -> what keeps the time of writing out of the file."""

Points = dict[str, tuple[float | None, list[float] | None]]
"""Name -> a share and its interval; None without one."""


def check_drawable(path: Path) -> None:
    """Raise IernError if no plot can be written to a file of this name. Call it before the long work."""
    if path.suffix.lower().lstrip(".") not in FigureCanvasBase.get_supported_filetypes():
        raise IernError(f"{path}: plots cannot be written in this format; use .png, .pdf or .svg")


def save_figure(figures: dict[str, Any], path: Path, model: Path) -> None:
    """Write the confusion matrix, and the recalls and the strata's accuracies with intervals, to a file.

    With a second model in `figures["against"]`, its points are drawn beside those of `model`, and a legend names both.
    """
    models = [(str(model), figures)]
    if figures["against"]:
        other = Path(figures["against"]["model"])
        names = (model.name, other.name) if model.name != other.name else (str(model), str(other))
        models = list(zip(names, (figures, figures["against"]["figures"]), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4 + 0.12 * len(figures["strata"])), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_confusion(left, figures)
        _draw_points(right, [(name, _points(each)) for name, each in models])
        right.axhline(len(figures["expressions"]) - 0.5, color="0.7", linewidth=0.6)
        with atomic_path(path) as temporary:
            suffix = path.suffix.lower().lstrip(".")
            figure.savefig(temporary, dpi=300, metadata=NO_DATE.get(suffix))


def _draw_confusion(axes: Axes, figures: dict[str, Any]) -> None:
    """The share of each true expression that is predicted as each, in percent."""
    counts = np.array(figures["confusion"], float)
    totals = counts.sum(axis=1).astype(int)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = figures["expressions"]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted, % of the true expression", ylabel="true (faces)")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), [f"{name} ({total})" for name, total in zip(names, totals, strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            *(column, row, f"{100 * share:.0f}"), ha="center", va="center", color="white" if share > 0.5 else "black"
        )


def _points(figures: dict[str, Any]) -> Points:
    """The recalls of a model, its mean recall and accuracy, and the accuracy of each stratum."""
    bounds = figures["intervals"]
    recalls = {name: (figures["recall"][name], bounds["recall"][name]) for name in figures["expressions"]}
    whole = {"mean recall": (figures["mean_recall"], bounds["mean_recall"])}
    whole["accuracy"] = figures["accuracy"], bounds["accuracy"]
    strata = figures["strata"] if len(figures["strata"]) > 1 else {}
    by_stratum = {
        f"accuracy, {name}": (each["accuracy"], each["intervals"]["accuracy"]) for name, each in strata.items()
    }
    return {**recalls, **whole, **by_stratum}


def _draw_points(axes: Axes, models: Sequence[tuple[str, Points]]) -> None:
    """The figures of one or two named models with their 95 % intervals, from top to bottom."""
    names = list(models[0][1])
    for index, (model, points) in enumerate(models):
        offset = 0.0 if len(models) == 1 else 0.32 * index - 0.16
        axes.plot([], [], MARKERS[index], color=COLOURS[index], markersize=3.5, label=model)
        for row, name in enumerate(names):
            value, interval = points[name]
            if value is None:
                continue
            if interval:
                axes.plot([100 * bound for bound in interval], [row + offset] * 2, color=COLOURS[index], linewidth=1)
            axes.plot([100 * value], [row + offset], MARKERS[index], color=COLOURS[index], markersize=3.5)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), xlabel="recall and accuracy, %")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(models) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
