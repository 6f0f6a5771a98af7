"""The tables of an evaluation on the screen."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from iern.train.evaluation.comparison import COMPARED
from iern.train.evaluation.measure import FEW

ROWS = {
    "accuracy": "accuracy",
    "mean_recall": "mean recall",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "coverage": "not uncertain",
    "risk": "wrong among those",
    "auroc_disagreement": "AUROC, disagreement",
    "auroc_improbability": "AUROC, improbability",
}
"""Key of a figure -> its name in the table."""

FIRST_MISSED = 5
"""Pictures without a face that are named on the screen; the JSON file has all."""


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as two tables."""
    confusion = Table(title="true expression, predicted as")
    for heading in ("", *figures["expressions"], "n"):
        confusion.add_column(heading, justify="right")
    for name, row in zip(figures["expressions"], figures["confusion"], strict=True):
        confusion.add_row(name, *map(str, row), str(sum(row)))
    parts = {"all": figures, **figures["strata"]}
    if figures["confirmed"]:
        parts["confirmed"] = figures["confirmed"]
    averaged = {"mean over sets": figures["mean_over_sets"]} if len(figures["strata"]) > 1 else {}
    rates = Table(title=f"percent with 95 % intervals; under {FEW} faces, counts")
    for heading in ("", *parts, *averaged):
        rates.add_column(heading, justify="right")
    rates.add_row("n", *(str(part["n"]) for part in parts.values()))
    for key, heading in ROWS.items():
        rates.add_row(heading, *(_figure(part, key) for part in (parts | averaged).values()))
    rates.add_section()
    for name in figures["expressions"]:
        rates.add_row(f"recall, {name}", *(_recall(part, name) for part in parts.values()))
    rates.add_section()
    for name in figures["expressions"]:
        rates.add_row(f"F1, {name}", *(_f1(part, name) for part in parts.values()))
    console.print(confusion, rates)
    console.print(
        f"n {figures['n']}   accuracy {figures['accuracy']:.2%}   mean recall {figures['mean_recall']:.2%}   "
        f"macro F1 {figures['macro_f1']:.2%}   ECE {figures['ece']:.2%}   uncertain below {figures['threshold']:.3f}",
        highlight=False,
    )
    if figures["missed"]:
        _print_missed(figures["missed"], console)
    if figures["against"]:
        _print_comparison(figures, console)


def _print_comparison(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of both models, their difference, and whether it may be chance."""
    paired = figures["against"]
    table = Table(title=f"compared with {paired['model']} on the same faces, percent")
    for heading in ("", "this", "other", "difference", "p"):
        table.add_column(heading, justify="right")
    for key in COMPARED:
        this, other = (f"{100 * each[key]:.1f}" for each in (figures, paired["figures"]))
        difference, interval = paired["difference"][key], paired["intervals"][key]
        bounds = f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""
        table.add_row(ROWS[key], this, other, f"{100 * difference:+.1f}{bounds}", _p_value(paired["bootstrap_p"][key]))
    console.print(table)
    first, second = paired["first_alone_right"], paired["second_alone_right"]
    console.print(
        f"right alone: this {first}, other {second} of {paired['n']} faces; "
        f"McNemar's exact test: p {_p_value(paired['mcnemar_p'])}",
        highlight=False,
        markup=False,
    )


def _p_value(value: float | None) -> str:
    """`0.03`, with two digits; what is below 0.001 says only that."""
    if value is None:
        return "-"
    return f"{value:.2g}" if value >= 0.001 else "< 0.001"


def _print_missed(missed: dict[str, Any], console: Console) -> None:
    """Print the number of pictures without a face, what they cost, and the first of them."""
    console.print(f"no face found in {missed['n']} of {missed['pictures']} pictures", highlight=False)
    if not missed["n"]:
        return
    for name, part in {"all": missed, **missed["strata"]}.items():
        console.print(
            f"  {name}: {part['n']} of {part['pictures']}; accuracy if they count as wrong: "
            f"{_figure(part, 'accuracy_of_all')}",
            highlight=False,
        )
    more = ", ..." if missed["n"] > FIRST_MISSED else ""
    console.print(f"  without a face: {', '.join(missed['paths'][:FIRST_MISSED])}{more}", highlight=False)


def _recall(figures: dict[str, Any], expression: str) -> str:
    right, total = figures["counts"][expression]
    if total < FEW:
        return f"{right}/{total}"
    return _with_interval(figures["recall"][expression], figures["intervals"]["recall"][expression])


def _f1(figures: dict[str, Any], expression: str) -> str:
    return _with_interval(figures["f1"][expression], figures["intervals"]["f1"][expression])


def _figure(figures: dict[str, Any], key: str) -> str:
    return _with_interval(figures[key], figures["intervals"][key]) if key in figures else ""


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    """`82.1 [81, 83]`, in percent."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else "")
