"""What `python -m benchmarks.toy` measured: accuracies with intervals, what the probes read, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console

from benchmarks.common.terminal import print_table
from iern.runtime.system.files import atomic_path, write_text
from iern.train.evaluation.bootstrap import mean_interval
from iern.train.evaluation.markdown import markdown_table

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

Runs = Mapping[str, Mapping[str, Any]]
"""The figures of each run, by `method/degradations seen/seed`."""
COLOURS = {"baseline": "#8c8c8c", "disentanglement": "#d08c3c", "iern": "#2c6fb0", "input": "#5a9a5a"}


def accuracies(runs: Runs, method: str, seen: int, distribution: str) -> dict[int, float]:
    """The accuracy of `method` under the protocol `seen`, by seed; `distribution` is `i.d.` or `o.o.d.`."""
    found = {}
    for key, figures in runs.items():
        name, _, seed = key.split("/")
        if name == method and str(seen) in figures["protocols"]:
            found[int(seed)] = figures["protocols"][str(seen)][distribution]["accuracy"]
    return found


def rows(runs: Runs, seen: int) -> list[tuple[str, ...]]:
    """One row for each method: seeds, accuracy i.d. and o.o.d., and o.o.d. minus the baseline's, paired by seed."""
    table = []
    baseline = accuracies(runs, "baseline", seen, "o.o.d.")
    for method in COLOURS:
        inside, outside = (accuracies(runs, method, seen, distribution) for distribution in ("i.d.", "o.o.d."))
        if not inside:
            continue
        paired = [outside[seed] - baseline[seed] for seed in outside if seed in baseline]
        gain = str(mean_interval(paired)) if paired and method != "baseline" else ""
        means = (str(mean_interval([*accuracy.values()])) for accuracy in (inside, outside))
        table.append((method, str(len(inside)), *means, gain))
    return table


def probe_rows(runs: Runs, seen: int) -> list[tuple[str, ...]]:
    """One row for each method and feature: how well a linear probe reads the expression and the degradation."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for key, figures in runs.items():
        method, degradations, _ = key.split("/")
        if int(degradations) == seen or method == "input":
            for feature, probes in figures["probes"].items():
                found.setdefault((method, feature), []).append(probes)
    return [
        (method, feature, *(str(mean_interval([p[label]["accuracy"] for p in probes])) for label in PROBED))
        for (method, feature), probes in found.items()
    ]


PROBED = ("expression", "degradation")
HEAD = ("method", "seeds", "i.d.", "o.o.d.", "o.o.d. minus baseline")
PROBE_HEAD = ("method", "feature", *(f"reads the {label}" for label in PROBED))


def write_report(runs: Runs, path: Path, console: Console) -> tuple[Path, Path]:
    """Print the tables, write them and the plot beside `path`, and return the two paths."""
    page, plot = path.with_suffix(".md"), path.with_suffix(".png")
    protocols = sorted({int(seen) for figures in runs.values() for seen in figures["protocols"]})
    for seen in protocols:
        print_table(
            console, f"{seen} of 3 degradations seen: accuracy, 95 % interval over seeds", HEAD, rows(runs, seen)
        )
    write_text(page, markdown(runs, protocols, plot.name))
    _plot(runs, protocols, plot)
    return page, plot


def markdown(runs: Runs, protocols: Sequence[int], plot: str) -> str:
    """The results as a page."""
    parts = [
        "# The toy experiment",
        "Written by `python -m benchmarks.toy`; its `--help` explains what is compared. Accuracy on people not trained "
        "on, mean over seeds with its 95 % bootstrap interval, which is rough with so few seeds. `input` is the "
        "intervention on the input; it alone sees the o.o.d. pairs in training.",
        f"![accuracy]({plot})",
    ]
    for seen in protocols:
        parts += [
            f"## Each expression under {seen} of 3 degradations",
            markdown_table(HEAD, rows(runs, seen)),
            "Linear probes on frozen features, cross-validated by person, over all pairs (chance: expression 1/7, "
            "degradation 1/3):",
            markdown_table(PROBE_HEAD, probe_rows(runs, seen)),
        ]
    return "\n\n".join(parts) + "\n"


def _plot(runs: Runs, protocols: Sequence[int], path: Path) -> None:
    """A dot for every seed, i.d. and o.o.d.: what confounding costs, and what a method regains."""
    figure, axes = plt.subplots(1, len(protocols), figsize=(5 * len(protocols), 4), sharey=True, squeeze=False)
    for axis, seen in zip(axes[0], protocols, strict=True):
        for place, distribution in enumerate(("i.d.", "o.o.d.")):
            for offset, (method, colour) in enumerate(COLOURS.items()):
                values = [*accuracies(runs, method, seen, distribution).values()]
                label = method if place == 0 else None
                axis.scatter([place + (offset - 1.5) * 0.15] * len(values), values, color=colour, label=label, s=18)
        axis.axhline(1 / 7, color="black", linewidth=0.6, linestyle=":")
        axis.set(title=f"{seen} of 3 degradations seen", xticks=(0, 1), ylim=(0, 1), ylabel="accuracy")
        axis.set_xticklabels(("in distribution", "out of distribution"))
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)
