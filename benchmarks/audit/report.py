"""What `python -m benchmarks.audit` measured: tables on the terminal, a page, and a picture with a panel a change."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console
from rich.table import Table

from iern.runtime.system.files import atomic_path
from iern.train.evaluation.markdown import markdown_table

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

Results = Mapping[str, Any]
"""The content of the results file, or an object in it: plain types."""
STYLES = (("black", "o"), ("#9c4210", "s"), ("#4a90d9", "^"), ("#c9a227", "D"), ("#3a7d44", "v"), ("#b05fb0", "P"))
"""Colour and marker of each model, repeated after the last; the first four get lighter in a grey print."""
COLUMNS, PANEL = 5, (3.0, 2.7)
DIFFERENCES = ("accuracy minus first", "flips minus first")
MODELS = ("model", "method", "preset", "strata", "precision", "runs on", "SHA-256")
OVERALL = ("model", "accuracy", "flips", *DIFFERENCES)
GRADES = (
    *("amount", "model", "accuracy", "flips", "shift", "disagreement"),
    *("AUROC disagreement", "AUROC uncertainty", *DIFFERENCES),
)


def paths_beside(path: Path) -> tuple[Path, Path, Path]:
    """The paths of the results, of their page and of their picture."""
    return path, path.with_suffix(".md"), path.with_suffix(".png")


def write_report(results: Results, path: Path) -> None:
    """Write the results, the page and the picture. All are made before the first replaces an older one."""
    results_path, page_path, picture_path = paths_beside(path)
    with contextlib.ExitStack() as files:  # an error names the file that was begun last
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        files.enter_context(atomic_path(results_path)).write_text(text, encoding="utf-8")
        page = markdown(results, picture_path.name)
        files.enter_context(atomic_path(page_path)).write_text(page, encoding="utf-8")
        _plot(results, files.enter_context(atomic_path(picture_path)))


def print_tables(results: Results, console: Console) -> None:
    """Print a row for each grade with accuracy and flips of each model, and the means over all with intervals."""
    table = _columns(results, "change", "amount", title="accuracy, and flips of the first expression")
    for change in results["changes"]:
        amounts = _amounts(change)
        for grade, amount in enumerate(amounts):
            cells = [model["grades"][change["name"]][grade] for model in results["models"]]
            shares = [f"{cell['accuracy']['value']:.1%}, {cell['flip_rate']['value']:6.1%}" for cell in cells]
            title = change["name"] if grade == 0 else ""
            table.add_row(title, amount, *shares, end_section=grade == len(amounts) - 1)
    means = _columns(results, "", title="mean over all changes and grades from 1, 95 % intervals")
    for heading, *values in list(zip(OVERALL, *_overall(results), strict=True))[1:]:
        means.add_row(heading, *values)
    console.print(table, means)


def _columns(results: Results, *headings: str, title: str) -> Table:
    """An empty table with the headings and a column for each model."""
    table = Table(*headings, title=title)
    for model in results["models"]:
        table.add_column(model["name"], justify="right", overflow="fold")
    return table


def markdown(results: Results, picture: str) -> str:
    """The results as a page."""
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        "# Counterfactual audit",
        "**A quick run: these numbers mean little.**" if results["quick"] else "",
        f"The same {results['faces']} faces of the data set `{results['data']}`, split `{results['split']}`, changed "
        "in grades before they are resized to a model's input size: every model saw the same. "
        f"{results['measured']}; {packages}. Written by `python -m benchmarks.audit`; its `--help` explains each "
        "figure.",
        f"In brackets: 95 % bootstrap intervals over {results['units']} subjects, or faces if no subject is given, "
        f"from {results['resamples']} resamples, paired between models. *Flips*: share of faces whose first expression "
        "differs from that of the unchanged face. *Shift*: mean total variation distance of the probabilities to those "
        "of the unchanged face. *Disagreement*: of the strata, mean. *AUROC*: how well disagreement or uncertainty "
        "(1 - largest probability) separates wrong from right predictions; 0.5 is chance.",
        markdown_table(MODELS, [_description(model) for model in results["models"]]),
        f"![accuracy and flips]({picture})",
        "## Mean over all changes and grades",
        markdown_table(OVERALL, _overall(results)),
    ]
    for change in results["changes"]:
        title = f"## {change['name'].capitalize()}, {change['unit']}"
        parts += [title, change["what"], markdown_table(GRADES, list(_rows(results, change)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _description(model: Results) -> tuple[str, ...]:
    runs_on = model["provider"] + (f" ({model['note']})" if model["note"] else "")
    values = (model["method"], model["preset"], str(model["strata"]), model["precision"], runs_on, model["sha256"][:12])
    return model["name"], *values


def _overall(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            *(model["name"], _rate(model["overall"]["accuracy"]), _rate(model["overall"]["flip_rate"])),
            *_differences(model["overall"]),
        )
        for model in results["models"]
    ]


def _rows(results: Results, change: Results) -> Iterator[tuple[str, ...]]:
    """The cells of `GRADES`: one row for each grade and model."""
    for grade, amount in enumerate(_amounts(change)):
        for model in results["models"]:
            cell = model["grades"][change["name"]][grade]
            yield (
                *(amount, model["name"], _rate(cell["accuracy"]), _rate(cell["flip_rate"])),
                *(f"{cell['shift']:.3f}", f"{cell['disagreement']:.4f}"),
                *("-" if value is None else f"{value:.3f}" for value in cell["auroc"].values()),
                *_differences(cell),
            )


def _amounts(change: Results) -> list[str]:
    return ["none", *(f"{amount:g}" for amount in change["amounts"])]


def _differences(cell: Results) -> tuple[str, str]:
    if "minus_first" not in cell:
        return "", ""
    accuracy, flips = cell["minus_first"].values()
    return _rate(accuracy, "+.1f"), _rate(flips, "+.1f")


def _rate(interval: Results, style: str = ".1f") -> str:
    """`67.2 % [61.7, 72.3]`"""
    value, low, high = (format(100 * interval[key], style) for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def _plot(results: Results, path: Path) -> None:
    """A panel for each change: accuracy filled with solid lines, flips hollow and dashed, intervals as whiskers."""
    changes, models = results["changes"], results["models"]
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
    faces = f"{results['faces']} faces, split {results['split']} of {results['data']}"
    figure.suptitle(f"{faces}: accuracy, and flips of the first expression")
    handles = [Line2D([], [], color=style[0], marker=style[1]) for style in map(_style, range(len(models)))]
    kinds = [Line2D([], [], color="black"), Line2D([], [], color="black", linestyle="--")]
    labels = [*(model["name"] for model in models), "accuracy (filled)", "flips (hollow)"]
    figure.legend([*handles, *kinds], labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _curves(axis: Any, grades: Sequence[Results], place: int, models: int) -> None:
    colour, marker = _style(place)
    x = [grade + 0.12 * (place - (models - 1) / 2) for grade in range(len(grades))]  # so that whiskers do not overlap
    for rate, line, face in (("accuracy", "-", colour), ("flip_rate", "--", "white")):
        values = [cell[rate]["value"] for cell in grades]
        # If the resamples are skewed, the value of a rare event can be beyond their quantiles.
        below = [max(0.0, cell[rate]["value"] - cell[rate]["low"]) for cell in grades]
        above = [max(0.0, cell[rate]["high"] - cell[rate]["value"]) for cell in grades]
        style = {"color": colour, "linestyle": line, "marker": marker, "markerfacecolor": face, "markersize": 5}
        axis.errorbar(x, values, [below, above], linewidth=1.2, elinewidth=0.7, **style)


def _style(place: int) -> tuple[str, str]:
    return STYLES[place % len(STYLES)]
