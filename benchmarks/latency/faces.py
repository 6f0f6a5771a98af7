"""Command: time several faces in one call of an exported file, and compare with one call for each face."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import Results, write_with_page
from benchmarks.common.turns import elapsed, in_turns
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.errors import IernError
from iern.runtime.session import Session
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.evaluation.markdown import markdown_table

FACES = (1, 2, 4, 8, 16)
HEAD = ("faces", "one call, p50 ms", "p99 ms", "a call each, p50 ms", "faster", "a face, ms")

EXAMPLES = """\
examples:
  python -m benchmarks.latency.faces                                     the bundled model
  python -m benchmarks.latency.faces runs/iern/ckpt.onnx --faces 1 8     another model, with 1 and 8 faces

The calls take turns, so that other load on the machine slows both alike; still, run nothing else meanwhile. Both must
give the same logits before anything is timed. The command writes all samples as JSON, and a table beside it.
"""


def measure(session: Session, numbers: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of `repeats` calls for each number of faces, `batched` and `singly`. Raises IernError."""
    pixels = np.random.default_rng(0).integers(0, 256, (max(numbers), *session.artifact.input.shape), np.uint8)
    calls: dict[str, Callable[[], float]] = {}
    for number in numbers:
        faces = pixels[:number]
        together, singly = session(faces).logits, np.concatenate([session(face[None]).logits for face in faces])
        if not np.allclose(together, singly, rtol=0, atol=1e-3 * np.ptp(singly)):
            raise IernError(f"{number} faces in one call give other logits than one by one; nothing was timed")
        calls[f"{number} batched"] = lambda faces=faces: elapsed(lambda: session(faces))
        calls[f"{number} singly"] = lambda faces=faces: elapsed(lambda: [session(face[None]) for face in faces])
    samples = in_turns(calls, repeats)
    return [{"faces": n, "batched": samples[f"{n} batched"], "singly": samples[f"{n} singly"]} for n in numbers]


def rows(measured: Sequence[Results]) -> list[tuple[str, ...]]:
    """One row for each number of faces, see HEAD."""
    table = []
    for found in measured:
        p50, p99 = np.percentile(found["batched"], (50, 99))
        singly = float(np.median(found["singly"]))
        cells = (f"{p50:.2f}", f"{p99:.2f}", f"{singly:.2f}", f"{singly / p50:.2f}x", f"{p50 / found['faces']:.2f}")
        table.append((str(found["faces"]), *cells))
    return table


def markdown(results: Results) -> str:
    """The results as a page."""
    setting = (
        f"{results['model']} on {results['provider']}, {results['machine']}, {results['threads']} threads, "
        f"{results['measured']}: median of {results['repeats']} calls, in turns. "
        "Written by `python -m benchmarks.latency.faces`."
    )
    return "\n\n".join(("# Several faces in a frame", setting, markdown_table(HEAD, rows(results["numbers"])))) + "\n"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = Parser(
        prog="python -m benchmarks.latency.faces",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, help="exported file (default: the bundled one)")
    parser.add_argument("--faces", type=positive, nargs="+", default=FACES, metavar="N", help=f"default: {FACES}")
    parser.add_argument("--repeats", type=positive, default=100, help="calls of each (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS / "faces.json", help="default: results/faces.json")
    options = parser.parse_args(argv)
    refuse_conflicts({"MODEL": options.model}, {"--json": options.json, "its page": options.json.with_suffix(".md")})
    with open_session(options.model) as session:
        results = {
            "model": options.model.name,
            "provider": session.provider,
            "machine": cpu_model(),
            "threads": cpu_budget(),
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "repeats": options.repeats,
            "numbers": measure(session, options.faces, options.repeats),
        }
    page = write_with_page(options.json, results, markdown(results))
    print(markdown(results) + f"\nwrote {options.json}\nwrote {page}")


if __name__ == "__main__":
    sys.exit(main())
