"""Command: compare exported models with other people's installable models, on the same labelled pictures."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import json_path, write_with_page
from benchmarks.peers.figures import TIMED_CALLS, accuracy_over_sets, answers, call_times, figures, read_sets
from benchmarks.peers.model_files import OurModel, ZooModel
from benchmarks.peers.node import node_peers
from benchmarks.peers.packages import PYTHON_PEERS
from benchmarks.peers.peer import TIGHT, Peer
from benchmarks.peers.report import markdown
from iern.runtime.bundled import MODEL
from iern.runtime.errors import ArtifactError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.data.manifest import input_files
from iern.train.network.checkpoint import versions
from iern.train.network.config import SEVEN_EXPRESSIONS

OUTPUT = RESULTS / "peers.json"
DESCRIPTION = ("name", "version", "weights", "crop", "preprocessing", "source")
"""What the results hold of a model besides its figures."""
PACKAGES = ("iern", "onnxruntime", "opencv-python", "opencv-python-headless", "torch", "ai-edge-litert")

EXAMPLES = """\
examples:
  python -m benchmarks.peers --data ROOT                        the bundled model and every peer that is installed
  python -m benchmarks.peers --data PORTRAITS --detect          whole pictures instead of cropped faces
  python -m benchmarks.peers old.onnx new.onnx --data ROOT --data ROOT2 --node-modules FOLDER

ROOT holds manifest.csv or folders, as for train/evaluate.py. Each of its confounders is a set of its own. With
--detect the face is the largest that this project's detector finds, for all models alike: each model gets it
cropped as its own code crops a box. Peers that crop by the boxes of other detectors get also a tight crop,
{tight} of the box's longer side. The crop with the higher accuracy (mean over the sets) is reported. That is a
choice on the test pictures, in the peer's favour. A peer that is not installed is listed with the command that
installs it.

peers: {peers}

Figures are of the seven expressions: {expressions}.
A peer's other classes are dropped, and the rest is divided by its sum. The page has all rates and recalls by
set. Keys of the JSON file:
  data, split, detect   the names of the roots; the split; whether the pictures are whole
  sets, missed          by name: number of `faces`; number of pictures without a face, which are left out
  models                in the order of the page: name, version, `weights` (bytes), `milliseconds` ({calls} calls
                        for one face, on one thread, in turns), crop, preprocessing, source,
                        `reported_crop` (own or tight), `accuracy_by_crop` (mean over the sets), and its figures:
    accuracy, mean_recall, macro_f1, recall, counts, intervals
                        as in train/evaluate.py, over all faces
    sets                the same for each set
    mean_over_sets      means over the sets, which count alike
  absent                peers that were not measured: name, `reason`, `install`
  expressions, calls, cpu, versions, measured
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    refuse_conflicts(
        {
            "MODEL": options.models,
            "--data": itertools.chain.from_iterable(map(input_files, options.data)),
            "--opencv-zoo": options.opencv_zoo,
        },
        {"--json": options.json, "its page": options.json.with_suffix(".md")},
    )
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with contextlib.ExitStack() as stack:
        ours: list[Peer] = [stack.enter_context(OurModel(path)) for path in options.models]
        others = [ZooModel(options.opencv_zoo), *PYTHON_PEERS, *node_peers(options.node_modules)]
        reasons = {peer.name: stack.enter_context(peer).available() for peer in others}
        installed = [peer for peer in others if reasons[peer.name] is None]
        absent = [
            {"name": peer.name, "reason": reasons[peer.name], "install": peer.install}
            for peer in others
            if reasons[peer.name] is not None
        ]
        for peer in absent:
            print(f"not measured: {peer['name']}: {peer['reason']}. Remedy: {peer['install']}", file=sys.stderr)
        measured = compare([*ours, *installed], options.data, options.split, options.detect)
    results = {**measured, "absent": absent}
    page = write_with_page(options.json, results, markdown(results))
    print(markdown(results) + f"\nwrote {options.json}\nwrote {page}")


def compare(peers: Sequence[Peer], roots: Sequence[Path], split: str, detect: bool) -> dict[str, Any]:
    """Run all models on the same faces. Returns the content of peers.json without `absent`: plain types only."""
    pairs = read_sets(roots, split)
    labelled = [face for _, face in pairs]
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{len(peers)} models on {split}", total=len(labelled))
        answered = answers(peers, labelled, detect, lambda count: bar.advance(task, count))
    times = call_times({peer.name: peer for peer in peers}, answered.first)
    seen = [pair for pair, found in zip(pairs, answered.found, strict=True) if found]
    sets, faces = np.array([name for name, _ in seen]), [face for _, face in seen]
    labels = np.array([face.expression for face in faces])
    models = []
    for peer, by_crop in zip(peers, answered.by_crop, strict=True):
        accuracies = {crop: accuracy_over_sets(each, sets, labels) for crop, each in by_crop.items()}
        best = max(accuracies, key=accuracies.__getitem__)
        models.append(
            {
                **{key: getattr(peer, key) for key in DESCRIPTION},
                "reported_crop": best,
                "accuracy_by_crop": accuracies,
                "milliseconds": times[peer.name],
                **figures(by_crop[best], sets.tolist(), faces),
            }
        )
    return {
        "data": [root.resolve().name for root in roots],
        "split": split,
        "detect": detect,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu_model(),
        "versions": versions(*PACKAGES),
        "calls": TIMED_CALLS,
        "expressions": list(SEVEN_EXPRESSIONS),
        "sets": {name: {"faces": int((sets == name).sum())} for name in sorted(set(sets.tolist()))},
        "missed": int((~answered.found).sum()),
        "models": models,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    others = [ZooModel(None), *PYTHON_PEERS, *node_peers(None)]
    parser = Parser(
        prog="python -m benchmarks.peers",
        description=__doc__.removeprefix("Command: ").capitalize(),
        epilog=EXAMPLES.format(
            peers=", ".join(peer.name for peer in others),
            expressions=", ".join(SEVEN_EXPRESSIONS),
            calls=TIMED_CALLS,
            tight=TIGHT,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("models", nargs="*", type=Path, default=[MODEL], metavar="MODEL", help="exported .onnx (default: the bundled)")
    add("--data", type=Path, action="append", required=True, metavar="ROOT", help="labelled pictures; repeatable")
    add("--split", default="test", help="train, valid, test, or all (default: test)")
    add("--detect", action="store_true", help="the pictures are whole, and the face is to be found in each")
    add("--opencv-zoo", type=Path, metavar="FILE", help="facial_expression_recognition_mobilefacenet_2022july.onnx")
    add("--node-modules", type=Path, metavar="FOLDER", help="where the peers on npm are installed")
    add("--json", type=json_path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT.name} in benchmarks/results")
    options = parser.parse_args(argv)
    if len({path.name for path in options.models}) < len(options.models):
        raise ArtifactError(f"two of {', '.join(map(str, options.models))} have the same file name; rename one")
    return options


if __name__ == "__main__":
    sys.exit(main())
