"""What confounded.py found, for people: accuracies with intervals over faces, paired gains, probes, and a plot.

Every interval is a 95 % bootstrap over the tested faces, each face's answers averaged over the seeds first: all
methods and seeds answer about the same faces, so differences are paired by face and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common.intervals import Interval, balanced_interval, interval
from benchmarks.common.tables import markdown_table, print_table
from benchmarks.confounded.methods import METHODS
from benchmarks.confounded.protocols import LEAVE_ONE_OUT
from iern.runtime.system.files import atomic_path, write_text

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

Content = Mapping[str, Any]
"""confounded.py's JSON: `configuration`, `questions` and `runs`, by `method/seed`."""
WHERE = ("i.d.", "o.o.d.")
REFERENCES = ("baseline", "input")
HEAD = ("method", "seeds", "parameters", *WHERE, *(f"o.o.d. minus {name}" for name in REFERENCES))
SPREAD_HEAD = ("method", "o.o.d. by seed", "o.o.d. answers held out there")
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
"""What one part of a method is worth: with it, without it."""
PAIR_HEAD = ("o.o.d.", "accuracy", "mean recall", "accuracy by seed")


def seeds_of(content: Content, method: str) -> list[int]:
    """The seeds that a method has finished, in order."""
    return sorted(int(seed) for name, seed in (key.split("/") for key in content["runs"]) if name == method)


def held_rows(content: Content, method: str, seed: int) -> NDArray[np.bool_]:
    """(n,) whether each question was out of distribution in that run."""
    asked = content["questions"]
    held = {
        (asked["expressions"].index(expression), asked["strata"].index(stratum))
        for expression, stratum in content["runs"][f"{method}/{seed}"]["held"]
        if stratum in asked["strata"]
    }
    pairs = zip(_digits(asked["labels"]), _digits(asked["stratum"]), strict=True)
    return np.array([(int(label), int(stratum)) in held for label, stratum in pairs])


def face_scores(content: Content, method: str, where: str, seeds: Sequence[int]) -> NDArray[np.float64]:
    """(faces,) share of a face's questions answered right, mean over the seeds; NaN for a face without a question."""
    asked = content["questions"]
    labels = _digits(asked["labels"])
    right = np.zeros(asked["faces"])
    count = np.zeros(asked["faces"])
    face = np.arange(len(labels)) % asked["faces"]
    for seed in seeds:
        rows = held_rows(content, method, seed) == (where == "o.o.d.")
        answered = _digits(content["runs"][f"{method}/{seed}"]["answers"])
        np.add.at(right, face[rows], (answered == labels)[rows])
        np.add.at(count, face[rows], 1)
    return np.divide(right, count, out=np.full(len(right), np.nan), where=count > 0)


def accuracy(content: Content, method: str, where: str, minus: str = "", recall: bool = False) -> Interval | None:
    """Of a method, or of its gain over the method `minus`; with `recall` every expression counts alike.

    None where no seed has finished, or none with both methods.
    """
    seeds = seeds_of(content, method)
    if minus:
        seeds = [seed for seed in seeds if seed in seeds_of(content, minus)]
    if not seeds:
        return None
    values = face_scores(content, method, where, seeds)
    if minus:
        values = values - face_scores(content, minus, where, seeds)
    known = ~np.isnan(values)
    labels = _digits(content["questions"]["labels"])[: len(values)]
    return balanced_interval(values[known], labels[known]) if recall else interval(values[known])


def rows(content: Content, recall: bool = False) -> list[tuple[str, ...]]:
    """One row a method, see HEAD."""
    table = []
    for method in _finished(content):
        seeds = seeds_of(content, method)
        inside, outside = (accuracy(content, method, where, recall=recall) for where in WHERE)
        gains = [
            accuracy(content, method, "o.o.d.", minus=name, recall=recall) if name != method else None
            for name in REFERENCES
        ]
        parameters = f"{content['runs'][f'{method}/{seeds[0]}']['parameters']:,}"
        table.append((method, str(len(seeds)), parameters, *(str(x or "") for x in (inside, outside, *gains))))
    return table


def spread_rows(content: Content) -> list[tuple[str, ...]]:
    """One row a method: accuracy o.o.d. seed by seed, and how often it names an expression held out there, where all
    true answers are such: what it does not name, it has tied to other conditions."""
    table: list[tuple[str, ...]] = []
    for method in _finished(content):
        seeds = seeds_of(content, method)
        each = [np.nanmean(face_scores(content, method, "o.o.d.", [seed])) for seed in seeds]
        named = np.mean([_names_held_out(content, method, seed) for seed in seeds])
        table.append((method, ", ".join(f"{value:.1%}" for value in each), f"{named:.1%}"))
    return table


def pair_rows(content: Content) -> list[tuple[str, ...]]:
    """One row a pair of PAIRS of which both have finished: the gain, and what it was with each seed."""
    table = []
    for method, other in PAIRS:
        seeds = [seed for seed in seeds_of(content, method) if seed in seeds_of(content, other)]
        if seeds:
            gains = [accuracy(content, method, "o.o.d.", minus=other, recall=recall) for recall in (False, True)]
            scores = [[face_scores(content, name, "o.o.d.", [seed]) for name in (method, other)] for seed in seeds]
            each = ", ".join(f"{np.nanmean(mine - theirs):+.1%}" for mine, theirs in scores)
            table.append((f"{method} minus {other}", *map(str, gains), each))
    return table


def _names_held_out(content: Content, method: str, seed: int) -> float:
    """Share of the o.o.d. answers that are an expression held out under the question's stratum."""
    asked, found = content["questions"], content["runs"][f"{method}/{seed}"]
    held = {tuple(cell) for cell in found["held"]}
    outside = held_rows(content, method, seed)
    answers, strata = _digits(found["answers"])[outside], _digits(asked["stratum"])[outside]
    pairs = zip(answers, strata, strict=True)
    return float(np.mean([(asked["expressions"][a], asked["strata"][s]) in held for a, s in pairs]))


def probe_rows(content: Content) -> list[tuple[str, ...]]:
    """One row a method and feature: how well a linear probe reads the expression and the stratum, over the seeds.

    The last row says how often a probe would be right that always gives the commonest label.
    """
    table = []
    for method in _finished(content):
        probes = [content["runs"][f"{method}/{seed}"]["probes"] for seed in seeds_of(content, method)]
        for feature in probes[0]:
            read = [interval([found[feature][label]["accuracy"] for found in probes]) for label in PROBED]
            table.append((method, feature, *map(str, read)))
    if table:
        any_feature = next(iter(probes[0].values()))  # all are read from the same faces
        table.append(("(always the commonest)", "", *(f"{any_feature[label]['majority']:.1%}" for label in PROBED)))
    return table


def write_report(content: Content, results: Path, console: Console) -> tuple[Path, Path]:
    """Print the tables, write them and the plot beside `results`, and return the two paths."""
    page, plot = results.with_suffix(".md"), results.with_suffix(".png")
    for title, head, body in _tables(content):
        print_table(console, title, head, body)
    write_text(page, markdown(content, plot.name))
    _plot(content, plot)
    return page, plot


def markdown(content: Content, plot: str) -> str:
    """The results as a page."""
    told = content["configuration"]
    asked = content["questions"]
    parts = [
        f"# {TITLES[told['protocol']].format(**told)}",
        f"Written by `python -m benchmarks.confounded --protocol {told['protocol']} --origin {told['origin']}`, whose "
        f"head says what is compared, as confounded_methods.py says what the methods are. Trained on {told['faces']:,} "
        f"faces for {told['epochs']} epochs, asked about {asked['faces']:,} faces of the split `{told['split']}`. "
        "Intervals: 95 % bootstrap over faces, seeds averaged. What another training would change is not in them: see "
        "the seeds one by one.",
        f"![accuracy]({plot})",
    ]
    for title, head, body in _tables(content):
        parts += [f"## {title}", markdown_table(head, body)]
    return "\n\n".join(parts) + "\n"


TITLES = {
    "table1": "Table 1 over three capture conditions, faces of {origin}",
    "table3": "Table 3 over three capture conditions, faces of {origin}; {rare} of a cell where it is held out",
    "origin": "{origin} left out of training",
    "camera": "{origin} left out of training, the other faces under drawn conditions: what are the strata?",
}


def _tables(content: Content) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    chance = ", ".join(
        f"{label} 1/{len(content['questions'][key])}"
        for label, key in zip(PROBED, ("expressions", "strata"), strict=True)
    )
    yield "Accuracy", HEAD, rows(content)
    yield "Mean recall", HEAD, rows(content, recall=True)
    # Of an origin left out every expression is held out, and all answers name one.
    columns = 2 if content["configuration"]["protocol"] in LEAVE_ONE_OUT else 3
    yield "Seed by seed", SPREAD_HEAD[:columns], [row[:columns] for row in spread_rows(content)]
    if pairs := pair_rows(content):
        yield "What a part is worth", PAIR_HEAD, pairs
    yield f"Linear probes on frozen features, interval over seeds (chance: {chance})", PROBE_HEAD, probe_rows(content)


def _plot(content: Content, path: Path) -> None:
    """A bar of the interval and a dot for every method, o.o.d. beside i.d."""
    methods = _finished(content)
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(methods) + 1.5))
    for where, colour, shift in zip(WHERE, ("#8c8c8c", "#2c6fb0"), (-0.12, 0.12), strict=True):
        for place, method in enumerate(methods):
            found = accuracy(content, method, where)
            if found is not None:
                axis.plot(found[1:], [place + shift] * 2, color=colour, linewidth=2)
                axis.plot(found.mean, place + shift, "o", color=colour, label=where if place == 0 else None)
    axis.set(yticks=range(len(methods)), xlabel="accuracy, 95 % interval over faces")
    axis.set_yticklabels(methods)
    axis.invert_yaxis()
    axis.legend(frameon=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)


def _finished(content: Content) -> list[str]:
    """Methods with a finished run, in the order of their table."""
    return [method for method in METHODS if seeds_of(content, method)]


def _digits(text: str) -> NDArray[np.int64]:
    """A string of digits -> its numbers."""
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
