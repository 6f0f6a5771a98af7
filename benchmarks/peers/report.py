"""What `python -m benchmarks.peers` measured, as a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.common.results import Results
from benchmarks.peers.peer import TIGHT
from iern.train.evaluation.markdown import markdown_table
from iern.train.evaluation.measure import FEW

RATES = {"accuracy": "Accuracy", "mean_recall": "Mean recall", "macro_f1": "Macro F1"}
"""Key of a rate -> its heading."""


def markdown(results: Results) -> str:
    """The data, the rates by set, the recalls by expression, size and time, and how each model was run, as a page."""
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        "# Peers on the same pictures",
        f"{_pictures(results)} Measured on {results['measured']}; {results['cpu']}; {packages}. Written by "
        "`python -m benchmarks.peers`; its `--help` explains each figure. In brackets: 95 % bootstrap intervals.",
        *(f"## {heading}, %\n\n{rates(results, key)}" for key, heading in RATES.items()),
        *(f"## Recall in {name}, %\n\n{recalls(results, name)}" for name in results["sets"]),
        f"## Size and time\n\nThe median of {results['calls']} calls of each model in turns, one face a call, one "
        "thread, without preprocessing. Each runs in its own runtime, so packages are compared as they are installed.",
        costs(results),
        "## How each was run",
        methods(results),
        _absent(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rates(results: Results, key: str) -> str:
    """One row for each model, one column for each set, and the mean over the sets."""
    head = ("model", *(f"{name} ({part['faces']:,})" for name, part in results["sets"].items()), "mean over the sets")
    rows = [
        (
            model["name"],
            *(_with_interval(part, key) for part in (*model["sets"].values(), model["mean_over_sets"])),
        )
        for model in results["models"]
    ]
    return markdown_table(head, rows, left=1)


def recalls(results: Results, name: str) -> str:
    """One row for each model, one column for each expression that the set has."""
    counts = results["models"][0]["sets"][name]["counts"]
    expressions = [expression for expression, (_, faces) in counts.items() if faces]
    head = ("model", *(f"{expression} ({counts[expression][1]:,})" for expression in expressions))
    rows = [
        (model["name"], *(_recall(model["sets"][name]["counts"][expression]) for expression in expressions))
        for model in results["models"]
    ]
    return markdown_table(head, rows, left=1)


def costs(results: Results) -> str:
    """One row for each model: size of its weights, time of a face, and both as multiples of the first model's."""
    medians = [float(np.median(model["milliseconds"])) for model in results["models"]]
    rows = [
        (
            *(model["name"], model["version"], f"{model['weights'] / 1e6:.2f} MB"),
            *(f"{median:.2f}", f"{median / medians[0]:.2f} x"),
        )
        for model, median in zip(results["models"], medians, strict=True)
    ]
    return markdown_table(("model", "version", "weights", "ms a face", "time, first model = 1"), rows, left=2)


def methods(results: Results) -> str:
    """One row for each model: what it gets of a picture, and where that is written."""
    keys = ("name", "crop", "preprocessing", "source") if results["detect"] else ("name", "preprocessing", "source")
    heads = {"name": "model", "crop": "own crop, by the box", "preprocessing": "preprocessing", "source": "after"}
    models = results["models"]
    rows = [tuple(model[key] for key in keys) for model in models]
    if not results["detect"]:
        return markdown_table([heads[key] for key in keys], rows)
    crops = [
        ", ".join(f"{crop} {100 * each:.1f}" for crop, each in model["accuracy_by_crop"].items()) for model in models
    ]
    head = [*(heads[key] for key in keys), "accuracy by crop, mean over the sets, %"]
    return markdown_table(head, [(*row, crop) for row, crop in zip(rows, crops, strict=True)])


def _pictures(results: Results) -> str:
    data = f"The split `{results['split']}` of {', '.join(f'`{name}`' for name in results['data'])}."
    if not results["detect"]:
        return f"{data} The pictures are cropped faces, and every model gets the whole of each."
    pictures = sum(part["faces"] for part in results["sets"].values()) + results["missed"]
    return (
        f"{data} The pictures are whole. Every model gets the largest face that this project's detector finds, cropped "
        f"as its own code crops a box. In {results['missed']} of {pictures:,} pictures no face was found; they are "
        f"left out. Peers that crop by the boxes of other detectors get also a tight crop: the square of {TIGHT} times "
        "the box's longer side, which is about the box of OpenCV's Haar cascade, as far as it is in the picture. The "
        "crop with the higher accuracy is reported: a choice on the test pictures, in the peer's favour."
    )


def _absent(results: Results) -> str:
    lines = [f"- {peer['name']}: {peer['reason']}. Remedy: {peer['install']}." for peer in results["absent"]]
    return "\n".join(("## Not measured", "", *lines)) if lines else ""


def _with_interval(part: Results, key: str) -> str:
    """`82.1 [81, 83]`, in percent."""
    interval = part["intervals"][key]
    return f"{100 * part[key]:.1f}" + (f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else "")


def _recall(counts: Sequence[int]) -> str:
    """In percent; over few faces the counts."""
    right, faces = counts
    return f"{right} of {faces}" if faces < FEW else f"{100 * right / faces:.0f}"
