"""What audit.py found, for people: tables on the terminal, a page, and a picture of one panel a change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console
from rich.table import Table

from iern.runtime.system.files import atomic_path

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

Record = Mapping[str, Any]

STYLES = (("black", "o"), ("#9c4210", "s"), ("#4a90d9", "^"), ("#c9a227", "D"), ("#3a7d44", "v"), ("#b05fb0", "P"))
"""Colour and marker of a model, again from the first behind the last; the first four are ever lighter in print."""
COLUMNS, PANEL = 5, (3.0, 2.7)
DIFFERENCES = ("accuracy minus first", "flips minus first")
MODELS = ("model", "method", "preset", "strata", "precision", "runs on", "SHA-256")
OVERALL = ("model", "accuracy", "flips", *DIFFERENCES)
GRADES = (
    *("amount", "model", "accuracy", "flips", "shift", "disagreement"),
    *("AUROC disagreement", "AUROC uncertainty", *DIFFERENCES),
)


def paths_beside(results: Path) -> tuple[Path, Path, Path]:
    """The record, the page and the picture."""
    return results, results.with_suffix(".md"), results.with_suffix(".png")


def write_results(record: Record, results: Path) -> None:
    """Write the record, the page and the picture: all are made before the first replaces an older one."""
    record_path, page_path, picture_path = paths_beside(results)
    with (
        atomic_path(record_path) as content,
        atomic_path(page_path) as page,
        atomic_path(picture_path) as picture,
    ):
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        content.write_text(text, encoding="utf-8")
        page.write_text(markdown(record, picture_path.name), encoding="utf-8")
        _plot(record, picture)


def print_tables(record: Record, console: Console) -> None:
    """One row a grade with accuracy and flips of each model, and the means over all with their intervals."""
    table = _columns(record, "change", "amount", title="accuracy, and flips of the first expression")
    for change in record["changes"]:
        amounts = _amounts(change)
        for grade, amount in enumerate(amounts):
            cells = [model["grades"][change["name"]][grade] for model in record["models"]]
            shares = [f"{cell['accuracy']['value']:.1%}, {cell['flip_rate']['value']:6.1%}" for cell in cells]
            title = change["name"] if grade == 0 else ""
            table.add_row(title, amount, *shares, end_section=grade == len(amounts) - 1)
    means = _columns(record, "", title="mean over all changes and grades from 1, 95 % intervals")
    for heading, *values in list(zip(OVERALL, *_overall(record), strict=True))[1:]:
        means.add_row(heading, *values)
    console.print(table, means)


def _columns(record: Record, *headings: str, title: str) -> Table:
    """An empty table with a column a model behind its first."""
    table = Table(*headings, title=title)
    for model in record["models"]:
        table.add_column(model["name"], justify="right", overflow="fold")
    return table


def markdown(record: Record, picture: str) -> str:
    """The audit as a page."""
    packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        "# Counterfactual audit",
        "**A quick run: these numbers mean little.**" if record["quick"] else "",
        f"The same {record['faces']} faces of the data set `{record['data']}`, split `{record['split']}`, changed in "
        "grades before they are brought to a model's input size: every model saw the same. "
        f"{record['measured']}; {packages}. Written by `python -m benchmarks.audit`, whose `--help` says what each "
        "figure is.",
        f"In brackets: 95 % bootstrap intervals over {record['units']} subjects, or faces where no subject is given, "
        f"from {record['resamples']} resamples, paired between models. *Flips*: share of faces whose first expression "
        "is another than unchanged. *Shift*: mean total variation distance of the probabilities to those of the "
        "unchanged face. *Disagreement*: of the strata, mean. *AUROC*: how well disagreement or uncertainty "
        "(1 - largest probability) tells wrong answers from right ones; 0.5 is chance.",
        _table(MODELS, [_description(model) for model in record["models"]]),
        f"![accuracy and flips]({picture})",
        "## Mean over all changes and grades",
        _table(OVERALL, _overall(record)),
    ]
    for change in record["changes"]:
        title = f"## {change['name'].capitalize()}, {change['unit']}"
        parts += [title, change["what"], _table(GRADES, list(_rows(record, change)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _description(model: Record) -> tuple[str, ...]:
    told = model["provider"] + (f" ({model['note']})" if model["note"] else "")
    values = (model["method"], model["preset"], str(model["strata"]), model["precision"], told, model["sha256"][:12])
    return model["name"], *values


def _overall(record: Record) -> list[tuple[str, ...]]:
    return [
        (
            *(model["name"], _rate(model["overall"]["accuracy"]), _rate(model["overall"]["flip_rate"])),
            *_differences(model["overall"]),
        )
        for model in record["models"]
    ]


def _rows(record: Record, change: Record) -> Iterator[tuple[str, ...]]:
    """The cells of `GRADES`: the models of a grade below each other."""
    for grade, amount in enumerate(_amounts(change)):
        for model in record["models"]:
            cell = model["grades"][change["name"]][grade]
            yield (
                *(amount, model["name"], _rate(cell["accuracy"]), _rate(cell["flip_rate"])),
                *(f"{cell['shift']:.3f}", f"{cell['disagreement']:.4f}"),
                *("-" if value is None else f"{value:.3f}" for value in cell["auroc"].values()),
                *_differences(cell),
            )


def _amounts(change: Record) -> list[str]:
    return ["none", *(f"{amount:g}" for amount in change["amounts"])]


def _differences(cell: Record) -> tuple[str, str]:
    if "minus_first" not in cell:
        return "", ""
    accuracy, flips = cell["minus_first"].values()
    return _rate(accuracy, "+.1f"), _rate(flips, "+.1f")


def _rate(interval: Record, style: str = ".1f") -> str:
    """`67.2 % [61.7, 72.3]`"""
    value, low, high = (format(100 * interval[key], style) for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def _plot(record: Record, path: Path) -> None:
    """Small multiples: accuracy filled and in whole lines, flips hollow and dashed, whiskers their intervals."""
    changes, models = record["changes"], record["models"]
    columns = min(COLUMNS, len(changes))
    rows = -(-len(changes) // columns)
    size = max(columns, 2) * PANEL[0], rows * PANEL[1] + 0.9
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, change in zip(axes.flat, changes, strict=False):
        for place, model in enumerate(models):
            _curves(axis, model["grades"][change["name"]], place, len(models))
        axis.set_xticks(range(len(change["amounts"]) + 1), _amounts(change))
        axis.set(title=change["name"], xlabel=change["unit"], ylim=(-0.03, 1.03))
        axis.grid(axis="y", linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(changes) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of faces")
    faces = f"{record['faces']} faces, split {record['split']} of {record['data']}"
    figure.suptitle(f"{faces}: accuracy, and flips of the first expression")
    handles = [Line2D([], [], color=style[0], marker=style[1]) for style in map(_style, range(len(models)))]
    kinds = [Line2D([], [], color="black"), Line2D([], [], color="black", linestyle="--")]
    labels = [*(model["name"] for model in models), "accuracy (filled)", "flips (hollow)"]
    figure.legend([*handles, *kinds], labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _curves(axis: Any, grades: Sequence[Record], place: int, models: int) -> None:
    colour, marker = _style(place)
    x = [grade + 0.12 * (place - (models - 1) / 2) for grade in range(len(grades))]  # whiskers beside each other
    for rate, line, face in (("accuracy", "-", colour), ("flip_rate", "--", "white")):
        values = [cell[rate]["value"] for cell in grades]
        # Where the resamples lean to one side, the value of a rare event can lie beyond their quantiles.
        below = [max(0.0, cell[rate]["value"] - cell[rate]["low"]) for cell in grades]
        above = [max(0.0, cell[rate]["high"] - cell[rate]["value"]) for cell in grades]
        look = {"color": colour, "linestyle": line, "marker": marker, "markerfacecolor": face, "markersize": 5}
        axis.errorbar(x, values, [below, above], linewidth=1.2, elinewidth=0.7, **look)


def _style(place: int) -> tuple[str, str]:
    return STYLES[place % len(STYLES)]
