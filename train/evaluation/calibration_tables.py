"""What the calibration command shows of its fit: tables and lines on the screen."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from iern.train.evaluation.calibration import ALL_UNCERTAIN, Curve, why_all_uncertain

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the faces at which the curve is printed."""


def print_figures(figures: dict[str, Any], curve: Curve, console: Console) -> None:
    """Print what was fitted, and some points of the curve."""
    shown = Table(title="if only the faces of the largest probabilities counted")
    for heading in ("faces", "largest probability at least", "wrong among them"):
        shown.add_column(heading, justify="right")
    total = int(curve.faces[-1])
    for coverage in COVERAGES:
        index = int(np.searchsorted(curve.faces, coverage * total))
        share, lowest = curve.faces[index] / total, curve.lowest[index]
        shown.add_row(f"{share:.1%}", f"{lowest:.3f}", f"{curve.risk[index]:.1%}")
    console.print(shown)
    if figures["adjustments"]:
        console.print(_adjustment_table(figures))
    console.print(
        f"temperature {figures['temperature']:.3f}, on {figures['n']} faces:",
        f"  ECE {_percent(figures, 'ece_before')} before, {_percent(figures, 'ece_after')} after",
        f"  negative log-likelihood {figures['nll_before']:.4f} before, {figures['nll_after']:.4f} after",
        f"threshold {figures['threshold']:.3f}, below which a face is uncertain:",
        f"  not uncertain {_percent(figures, 'coverage')} of the faces",
        f"  wrong {_percent(figures, 'risk')} of those, at most {figures['target_risk']:.1%} wanted",
        *([why_all_uncertain(curve, figures["target_risk"])] if figures["threshold"] == ALL_UNCERTAIN else []),
        *_prior_lines(figures),
        sep="\n",
        highlight=False,
        markup=False,
    )


def _prior_lines(figures: dict[str, Any]) -> list[str]:
    if not figures["prior"]:
        return ["the faces lack an expression, so the export can assume no other prior"]
    rates = ", ".join(f"{expression} {rate:.1%}" for expression, rate in figures["prior"].items())
    return ["the probabilities hold where the expressions are this frequent:", f"  {rates}"]


def _adjustment_table(figures: dict[str, Any]) -> Table:
    shown = Table(title=f"with --logit-adjustment (here {figures['logit_adjustment']:g})")
    for heading in ("tau", "accuracy", "mean recall"):
        shown.add_column(heading, justify="right")
    for row in figures["adjustments"]:
        shown.add_row(f"{row['logit_adjustment']:g}", f"{row['accuracy']:.1%}", f"{row['mean_recall']:.1%}")
    return shown


def _percent(figures: dict[str, Any], key: str) -> str:
    """`9.8% [8.9, 10.8]`: the figure with its 95 % interval; `-` if it does not exist."""
    interval = figures["intervals"][key]
    if figures[key] is None:
        return "-"
    return f"{figures[key]:.1%}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")
