"""Command: write the figures of docs/model_card.md anew, from results/ and what the bundled file says of itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, ROOT
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.errors import IernError, report
from iern.runtime.system.files import write_text

Figures = Mapping[str, Any]

PAGE = ROOT / "docs" / "model_card.md"
VOTED = "Under the majority of the FER+ votes"
SOURCES = {
    VOTED: "iern_edge_test.json",
    "Under FER2013's own labels": "iern_edge_test_own_labels.json",
}
"""Heading -> the results below it."""
PROBES = "iern_edge_probes.json"
"""What train/probe.py read from the checkpoint's features."""
START, END = "<!-- figures: python benchmarks/card.py -->", "<!-- end of the figures -->"
FEW = 30
"""Faces; below that a recall is said as counts."""


def tables(heading: str, figures: Figures) -> str:
    """The figures of one evaluation as Markdown: overall and by origin, by expression, and what was taken for what."""
    columns = {"all": figures, **figures["strata"]}
    if heading == VOTED:  # labels of another source are not what was voted on
        columns["confirmed"] = figures["confirmed"]
    rates = [
        ["", *columns],
        ["faces", *(f"{part['n']:,}" for part in columns.values())],
        *(
            [title, *(_share(part, key) for part in columns.values())]
            for key, title in (
                ("accuracy", "accuracy"),
                ("mean_recall", "mean recall"),
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
        ["true, answered as", *figures["expressions"]],
        *([name, *map(str, row)] for name, row in zip(figures["expressions"], figures["confusion"], strict=True)),
    ]
    return f"### {heading}\n\n{_markdown(rates)}\n\n{_markdown(confusion)}\n"


def calibration(artifact: Artifact) -> str:
    """What train/calibrate.py found on the validation faces, as it travels in the exported file."""
    found = artifact.metrics["calibration"]
    names = ("ece_before", "ece_after", "coverage", "risk")
    before, after, coverage, risk = (_share(found, name) for name in names)
    return (
        "### Calibration\n\n"
        f"On the {found['n']:,} validation faces: temperature {artifact.temperature:.3f}, with which the calibration "
        f"error (ECE) falls from {before} to {after}. Below the threshold of {artifact.threshold:.3f} a face "
        f"is uncertain: {coverage} are named, of which {risk} wrongly, chosen as at most "
        f"{found['target_risk']:.0%}.\n"
    )


def disentanglement(found: Figures) -> str:
    """What fresh linear probes read from the frozen features, a row a feature."""
    probes = found["probes"]
    first = next(iter(probes.values()))
    rows = [
        ["feature", *(f"reads the {label}" for label in first)],
        *([feature, *(f"{each['accuracy']:.1%}" for each in labels.values())] for feature, labels in probes.items()),
        ["(always the commonest)", *(f"{each['majority']:.1%}" for each in first.values())],
        ["(chance)", *(f"{each['chance']:.1%}" for each in first.values())],
    ]
    return (
        "### What the features hold\n\n"
        f"Fresh linear probes on the frozen, pooled features of {first['expression']['n']:,} faces of the split "
        f"`{found['split']}`, cross-validated with people apart where they are known:\n\n{_markdown(rows)}\n"
    )


def page_with(page: str, results: Mapping[str, Figures], probes: Figures, artifact: Artifact) -> str:
    """The page with the figures between its marks replaced. Raises IernError where it has no such marks."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise IernError(f"{PAGE}: lacks the marks {START} and {END}, between which the figures go; put them back")
    parts = [
        *(tables(heading, figures) for heading, figures in results.items()),
        calibration(artifact),
        disentanglement(probes),
    ]
    body = "\n".join(parts)
    return f"{before}{START}\n\n{body}\n{END}{after}"


def read_results(folder: Path = RESULTS) -> dict[str, Figures]:
    """Heading -> figures. Raises OSError where a result is missing."""
    return {heading: json.loads((folder / name).read_text(encoding="utf-8")) for heading, name in SOURCES.items()}


def read_probes(folder: Path = RESULTS) -> Figures:
    """What train/probe.py found. Raises OSError where it is missing."""
    return dict(json.loads((folder / PROBES).read_text(encoding="utf-8")))


def bundled() -> Artifact:
    """What the bundled file says of itself. Raises IernError."""
    with open_session(MODEL, provider="cpu") as session:
        return session.artifact


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    argparse.ArgumentParser(prog="python -m benchmarks.card", description=__doc__).parse_args(argv)
    try:
        write_text(PAGE, page_with(PAGE.read_text(encoding="utf-8"), read_results(), read_probes(), bundled()))
    except (IernError, OSError) as error:
        return report(error)
    print(f"wrote {PAGE}")
    return 0


def _share(part: Figures, key: str) -> str:
    if part[key] is None:
        return "-"
    interval = part["intervals"][key]
    return f"{part[key]:.1%}" + ("" if interval is None else f" [{interval[0]:.0%}, {interval[1]:.0%}]")


def _recall(part: Figures, name: str) -> str:
    right, of = part["counts"][name]
    if of < FEW:
        return f"{right} of {of}"
    low, high = part["intervals"]["recall"][name]
    return f"{right / of:.1%} [{low:.0%}, {high:.0%}]"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    sys.exit(main())
