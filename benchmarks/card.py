"""Command: write the figures of docs/model_card.md, from benchmarks/results/ and the bundled file's metadata."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from iern.runtime.system.command import command

from benchmarks import RESULTS, ROOT
from benchmarks.common.results import Results
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.errors import IernError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.files import write_text
from iern.train.evaluation.markdown import markdown_table

PAGE = ROOT / "docs" / "model_card.md"
VOTED = "Under the majority of the FER+ votes"
UNSEEN = "On data sets that training never saw"
SOURCES = {
    UNSEEN: "iern_edge_unseen.json",
    VOTED: "iern_edge_test.json",
    "Under FER2013's own labels": "iern_edge_test_own_labels.json",
}
"""The heading of each evaluation and the file with its results."""
PROBES = "iern_edge_probes.json"
"""What linear probes read from the checkpoint's features, written by train/probe.py."""
START, END = "<!-- figures: python -m benchmarks.card -->", "<!-- end of the figures -->"
FEWEST_FACES = 30
"""With fewer faces, a recall is written as counts."""


def tables(heading: str, figures: Results) -> str:
    """The figures of one evaluation as Markdown: overall and by origin, by expression, and the confusion matrix."""
    columns = {"all": figures, **figures["strata"]}
    if heading == VOTED:  # only these labels were voted on
        columns["confirmed"] = figures["confirmed"]
    rates = [
        ["", *columns],
        ["faces", *(f"{part['n']:,}" for part in columns.values())],
        *(
            [title, *(_share(part, key) for part in columns.values())]
            for key, title in (
                ("accuracy", "accuracy"),
                ("mean_recall", "mean recall"),
                ("macro_f1", "macro F1"),
                ("ece", "calibration error (ECE)"),
                ("coverage", "named, not `uncertain`"),
                ("risk", "wrong among those"),
                ("auroc_disagreement", "AUROC of errors, disagreement"),
                ("auroc_improbability", "AUROC of errors, probability"),
            )
        ),
        *([f"recall, {name}", *(_recall(part, name) for part in columns.values())] for name in figures["expressions"]),
    ]
    confusion = [
        ["true, predicted as", *figures["expressions"]],
        *([name, *map(str, row)] for name, row in zip(figures["expressions"], figures["confusion"], strict=True)),
    ]
    means = _mean_over_sets(figures) if heading == UNSEEN else ""
    return (
        f"### {heading}\n\n{markdown_table(rates[0], rates[1:])}\n\n{means}"
        f"{markdown_table(confusion[0], confusion[1:])}\n"
    )


def _mean_over_sets(figures: Results) -> str:
    """The mean over the sets, in a sentence, and the pictures without a face."""
    means, missed = figures["mean_over_sets"], figures["missed"]
    return (
        f"The mean over the sets, which count alike: accuracy {_share(means, 'accuracy')}, mean recall "
        f"{_share(means, 'mean_recall')}; {_share(means, 'coverage')} are named, and {_share(means, 'risk')} of these "
        f"names are wrong. The detector missed {missed['n']} of the {missed['pictures']} pictures.\n\n"
    )


def calibration(artifact: Artifact) -> str:
    """What train/calibrate.py found on the validation faces; the exported file's metadata holds it."""
    found = artifact.metrics["calibration"]
    names = ("ece_before", "ece_after", "coverage", "risk")
    before, after, coverage, risk = (_share(found, name) for name in names)
    varied = ", cut and changed as cameras and detectors do" if found.get("varied") else ""
    return (
        "### Calibration\n\n"
        f"On the {found['n']:,} validation faces{varied}: the temperature is {artifact.temperature:.3f}, which lowers "
        f"the calibration error (ECE) from {before} to {after}. Below the threshold of {artifact.threshold:.3f} a face "
        f"is uncertain: {coverage} of the faces get a name, and {risk} of these names are wrong. The target was at "
        f"most {found['target_risk']:.0%}.\n"
    )


def disentanglement(found: Results) -> str:
    """What new linear probes read from the frozen features, one row a feature."""
    probes = found["probes"]
    first = next(iter(probes.values()))
    rows = [
        ["feature", *(f"reads the {label}" for label in first)],
        *([feature, *(f"{each['accuracy']:.1%}" for each in labels.values())] for feature, labels in probes.items()),
        ["(always the most frequent)", *(f"{each['majority']:.1%}" for each in first.values())],
        ["(chance)", *(f"{each['chance']:.1%}" for each in first.values())],
    ]
    return (
        "### What the features hold\n\n"
        f"New linear probes on the frozen, pooled features of {first['expression']['n']:,} faces of the split "
        f"`{found['split']}`, cross-validated by person where the person is known:\n\n"
        f"{markdown_table(rows[0], rows[1:])}\n"
    )


def page_with(page: str, results: Mapping[str, Results], probes: Results, artifact: Artifact) -> str:
    """The page with the figures between its marks replaced. Raises IernError if it has no such marks."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise IernError(f"{PAGE} lacks the marks {START} and {END}, between which the figures go; put them back")
    parts = [
        *(tables(heading, figures) for heading, figures in results.items()),
        calibration(artifact),
        disentanglement(probes),
    ]
    body = "\n".join(parts)
    return f"{before}{START}\n\n{body}\n{END}{after}"


def read_results(folder: Path = RESULTS) -> dict[str, Results]:
    """The results by heading. Raises OSError if a file is missing."""
    return {heading: json.loads((folder / name).read_text(encoding="utf-8")) for heading, name in SOURCES.items()}


def read_probes(folder: Path = RESULTS) -> Results:
    """What train/probe.py found. Raises OSError if the file is missing."""
    return dict(json.loads((folder / PROBES).read_text(encoding="utf-8")))


def bundled_artifact() -> Artifact:
    """The bundled file's metadata. Raises IernError."""
    with open_session(MODEL, provider="cpu") as session:
        return session.artifact


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    Parser(prog="python -m benchmarks.card", description=__doc__).parse_args(argv)
    write_text(PAGE, page_with(PAGE.read_text(encoding="utf-8"), read_results(), read_probes(), bundled_artifact()))
    print(f"wrote {PAGE}")


def _share(part: Results, key: str) -> str:
    if part[key] is None:
        return "-"
    interval = part["intervals"][key]
    return f"{part[key]:.1%}" + ("" if interval is None else f" [{interval[0]:.0%}, {interval[1]:.0%}]")


def _recall(part: Results, name: str) -> str:
    right, of = part["counts"][name]
    if of < FEWEST_FACES:
        return f"{right} of {of}"
    low, high = part["intervals"]["recall"][name]
    return f"{right / of:.1%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    sys.exit(main())
