"""Plots of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from iern.runtime.errors import IernError
from iern.runtime.system.files import atomic_path


def check_drawable(path: Path) -> None:
    """Raise IernError if no plot can be written to a file of this name. Call it before the long work."""
    if path.suffix.lower().lstrip(".") not in FigureCanvasBase.get_supported_filetypes():
        raise IernError(f"{path}: plots cannot be written in this format; use .png, .pdf or .svg")


def save_confusion(figures: dict[str, Any], path: Path) -> None:
    """Write the confusion matrix, in shares of the true expression, and the accuracy per stratum to an image file."""
    counts = np.array(figures["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = figures["expressions"]
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    matrix, bars = figure.subplots(1, 2, width_ratios=(2.2, 1))
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    matrix.set(xlabel="predicted", ylabel="true", title=f"n {figures['n']}, accuracy {figures['accuracy']:.1%}")
    matrix.set_xticks(range(len(names)), names, rotation=45, ha="right")
    matrix.set_yticks(range(len(names)), names)
    for (row, column), share in np.ndenumerate(shares):
        shade = "white" if share > 0.5 else "black"
        matrix.text(column, row, f"{share:.0%}", ha="center", va="center", color=shade, fontsize=8)
    strata = list(figures["strata"])
    bars.barh(strata, [figures["strata"][name]["accuracy"] for name in strata], label="accuracy")
    recalls = [figures["strata"][name]["mean_recall"] for name in strata]
    bars.barh(strata, recalls, height=0.3, label="mean recall")
    bars.set(xlim=(0, 1), title="per stratum")
    bars.legend(loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
