"""What `python -m benchmarks.confounded` measured: accuracies with intervals, paired gains, probes, and a plot.

Every interval is a 95 % bootstrap over the tested faces; each face's scores are averaged over the seeds first. All
methods and seeds are tested on the same faces, so differences are paired by face and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common.results import Results
from benchmarks.common.terminal import print_table
from benchmarks.confounded.methods import METHODS
from benchmarks.confounded.protocols import LEAVE_ONE_OUT
from iern.runtime.system.files import atomic_path, write_text
from iern.train.evaluation.bootstrap import MeanInterval, balanced_mean_interval, mean_interval
from iern.train.evaluation.markdown import markdown_table

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

DISTRIBUTIONS = ("i.d.", "o.o.d.")
REFERENCES = ("baseline", "input")
HEAD = ("method", "seeds", "parameters", *DISTRIBUTIONS, *(f"o.o.d. minus {name}" for name in REFERENCES))
SPREAD_HEAD = ("method", "o.o.d. by seed", "o.o.d. predictions held out there")
PROBED = ("expression", "stratum")
PROBE_HEAD = ("method", "feature", *(f"reads the {label}" for label in PROBED))
PAIRS = (
    ("mended", "prior"),
    ("mended", "frozen"),
    ("mended", "shared"),
    ("mended", "iern"),
    ("mended", "resample"),
    ("mended", "input_transfer"),
    ("input_mended", "input"),
    ("by_condition", "by_origin"),
    ("by_both", "by_origin"),
)
"""Pairs of methods, with and without one part."""
PAIR_HEAD = ("o.o.d.", "accuracy", "mean recall", "accuracy by seed")


def seeds_of(results: Results, method: str) -> list[int]:
    """The seeds that a method has finished, in order."""
    return sorted(int(seed) for name, seed in (key.split("/") for key in results["runs"]) if name == method)


def held_rows(results: Results, method: str, seed: int) -> NDArray[np.bool_]:
    """(n,) whether each question was out of distribution in that run. `results` holds `questions` and `runs`."""
    questions = results["questions"]
    held = {
        (questions["expressions"].index(expression), questions["strata"].index(stratum))
        for expression, stratum in results["runs"][f"{method}/{seed}"]["held"]
        if stratum in questions["strata"]
    }
    pairs = zip(_digits(questions["labels"]), _digits(questions["stratum"]), strict=True)
    return np.array([(int(label), int(stratum)) in held for label, stratum in pairs])


def face_scores(results: Results, method: str, distribution: str, seeds: Sequence[int]) -> NDArray[np.float64]:
    """(faces,) share of a face's questions predicted right, mean over the seeds; NaN for a face without a question."""
    questions = results["questions"]
    labels = _digits(questions["labels"])
    right = np.zeros(questions["faces"])
    count = np.zeros(questions["faces"])
    face = np.arange(len(labels)) % questions["faces"]
    for seed in seeds:
        rows = held_rows(results, method, seed) == (distribution == "o.o.d.")
        predicted = _digits(results["runs"][f"{method}/{seed}"]["answers"])
        np.add.at(right, face[rows], (predicted == labels)[rows])
        np.add.at(count, face[rows], 1)
    return np.divide(right, count, out=np.full(len(right), np.nan), where=count > 0)


def accuracy(
    results: Results, method: str, distribution: str, minus: str = "", recall: bool = False
) -> MeanInterval | None:
    """The accuracy of a method, or its gain over the method `minus`; with `recall`, the mean over the expressions.

    None if no seed has finished, with both methods if there are two.
    """
    seeds = seeds_of(results, method)
    if minus:
        seeds = [seed for seed in seeds if seed in seeds_of(results, minus)]
    if not seeds:
        return None
    values = face_scores(results, method, distribution, seeds)
    if minus:
        values = values - face_scores(results, minus, distribution, seeds)
    known = ~np.isnan(values)
    labels = _digits(results["questions"]["labels"])[: len(values)]
    return balanced_mean_interval(values[known], labels[known]) if recall else mean_interval(values[known])


def rows(results: Results, recall: bool = False) -> list[tuple[str, ...]]:
    """One row for each method, see HEAD."""
    table = []
    for method in _finished(results):
        seeds = seeds_of(results, method)
        inside, outside = (accuracy(results, method, distribution, recall=recall) for distribution in DISTRIBUTIONS)
        gains = [
            accuracy(results, method, "o.o.d.", minus=name, recall=recall) if name != method else None
            for name in REFERENCES
        ]
        parameters = f"{results['runs'][f'{method}/{seeds[0]}']['parameters']:,}"
        table.append((method, str(len(seeds)), parameters, *(str(x or "") for x in (inside, outside, *gains))))
    return table


def spread_rows(results: Results) -> list[tuple[str, ...]]:
    """One row for each method: accuracy o.o.d. seed by seed, and how often it predicts an expression held out there.

    All true expressions are held out there: those that it does not predict, it has tied to other conditions.
    """
    table: list[tuple[str, ...]] = []
    for method in _finished(results):
        seeds = seeds_of(results, method)
        each = [np.nanmean(face_scores(results, method, "o.o.d.", [seed])) for seed in seeds]
        share = np.mean([_held_out_share(results, method, seed) for seed in seeds])
        table.append((method, ", ".join(f"{value:.1%}" for value in each), f"{share:.1%}"))
    return table


def pair_rows(results: Results) -> list[tuple[str, ...]]:
    """One row for each pair of PAIRS of which both have finished: the gain, and the gain of each seed."""
    table = []
    for method, other in PAIRS:
        seeds = [seed for seed in seeds_of(results, method) if seed in seeds_of(results, other)]
        if seeds:
            gains = [accuracy(results, method, "o.o.d.", minus=other, recall=recall) for recall in (False, True)]
            scores = [[face_scores(results, name, "o.o.d.", [seed]) for name in (method, other)] for seed in seeds]
            each = ", ".join(f"{np.nanmean(with_part - without):+.1%}" for with_part, without in scores)
            table.append((f"{method} minus {other}", *map(str, gains), each))
    return table


def _held_out_share(results: Results, method: str, seed: int) -> float:
    """The share of the o.o.d. predictions that are an expression held out under the question's stratum."""
    questions, found = results["questions"], results["runs"][f"{method}/{seed}"]
    held = {tuple(cell) for cell in found["held"]}
    outside = held_rows(results, method, seed)
    predicted, strata = _digits(found["answers"])[outside], _digits(questions["stratum"])[outside]
    pairs = zip(predicted, strata, strict=True)
    return float(np.mean([(questions["expressions"][a], questions["strata"][s]) in held for a, s in pairs]))


def probe_rows(results: Results) -> list[tuple[str, ...]]:
    """One row for each method and feature: how well a linear probe reads the expression and the stratum.

    The last row is the accuracy of a probe that always predicts the most frequent label.
    """
    table = []
    for method in _finished(results):
        probes = [results["runs"][f"{method}/{seed}"]["probes"] for seed in seeds_of(results, method)]
        for feature in probes[0]:
            read = [mean_interval([found[feature][label]["accuracy"] for found in probes]) for label in PROBED]
            table.append((method, feature, *map(str, read)))
    if table:
        any_feature = next(iter(probes[0].values()))  # all are read from the same faces
        table.append(("(always the most frequent)", "", *(f"{any_feature[label]['majority']:.1%}" for label in PROBED)))
    return table


def write_report(results: Results, path: Path, console: Console) -> tuple[Path, Path]:
    """Print the tables, write them and the plot beside `path`, and return the two paths."""
    page, plot = path.with_suffix(".md"), path.with_suffix(".png")
    for title, head, body in _tables(results):
        print_table(console, title, head, body)
    write_text(page, markdown(results, plot.name))
    _plot(results, plot)
    return page, plot


def markdown(results: Results, plot: str) -> str:
    """The results as a page."""
    settings = results["configuration"]
    questions = results["questions"]
    parts = [
        f"# {TITLES[settings['protocol']].format(**settings)}",
        f"Written by `python -m benchmarks.confounded --protocol {settings['protocol']} --origin {settings['origin']}`;"
        " its `--help` explains what is compared, and benchmarks/confounded/methods.py the methods. Trained on "
        f"{settings['faces']:,} faces for {settings['epochs']} epochs, tested on {questions['faces']:,} faces of the "
        f"split `{settings['split']}`. Intervals: 95 % bootstrap over faces, seeds averaged. They do not include the "
        "variation between trainings: see the seeds one by one.",
        f"![accuracy]({plot})",
    ]
    for title, head, body in _tables(results):
        parts += [f"## {title}", markdown_table(head, body)]
    return "\n\n".join(parts) + "\n"


TITLES = {
    "table1": "Table 1 over three capture conditions, faces of {origin}",
    "table3": "Table 3 over three capture conditions, faces of {origin}; held-out cells have {rare} of their faces",
    "origin": "{origin} left out of training",
    "camera": "{origin} left out of training, the other faces under random conditions: which strata?",
}


def _tables(results: Results) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    chance = ", ".join(
        f"{label} 1/{len(results['questions'][key])}"
        for label, key in zip(PROBED, ("expressions", "strata"), strict=True)
    )
    yield "Accuracy", HEAD, rows(results)
    yield "Mean recall", HEAD, rows(results, recall=True)
    # Of an origin left out every expression is held out, so all predictions are held out there.
    columns = 2 if results["configuration"]["protocol"] in LEAVE_ONE_OUT else 3
    yield "Seed by seed", SPREAD_HEAD[:columns], [row[:columns] for row in spread_rows(results)]
    if pairs := pair_rows(results):
        yield "What each part gains", PAIR_HEAD, pairs
    yield f"Linear probes on frozen features, interval over seeds (chance: {chance})", PROBE_HEAD, probe_rows(results)


def _plot(results: Results, path: Path) -> None:
    """A dot with its interval for every method, i.d. and o.o.d."""
    methods = _finished(results)
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(methods) + 1.5))
    for distribution, colour, shift in zip(DISTRIBUTIONS, ("#8c8c8c", "#2c6fb0"), (-0.12, 0.12), strict=True):
        for place, method in enumerate(methods):
            found = accuracy(results, method, distribution)
            if found is not None:
                axis.plot(found[1:], [place + shift] * 2, color=colour, linewidth=2)
                axis.plot(found.mean, place + shift, "o", color=colour, label=distribution if place == 0 else None)
    axis.set(yticks=range(len(methods)), xlabel="accuracy, 95 % interval over faces")
    axis.set_yticklabels(methods)
    axis.invert_yaxis()
    axis.legend(frameon=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)


def _finished(results: Results) -> list[str]:
    """Methods with a finished run, in the order of their table."""
    return [method for method in METHODS if seeds_of(results, method)]


def _digits(text: str) -> NDArray[np.int64]:
    """A string of digits -> its numbers."""
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
