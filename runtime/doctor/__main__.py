"""Command: say what is installed, what the webcam loop will use and why, and how to mend what stops it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 (pip refuses such a Python, a copied folder does not)
    sys.exit(f"problem: Python {sys.version.split()[0]} is too old; install 3.10 or newer, and iern into it")
try:
    from iern.runtime.bundled import MODEL
    from iern.runtime.doctor.findings import Finding
    from iern.runtime.doctor.report import examine
except ModuleNotFoundError as error:
    if not str(error.name).startswith("iern"):
        raise
    sys.exit("problem: iern is not installed in this Python; in the repository: pip install -e '.[cpu]'")

EXAMPLES = """\
ok: as it should be. note: worth knowing, the loop runs without it. problem: the loop cannot run; do what
the line below it says. What may crash or hang is tried in a process of its own.

Exit status: 0 where the webcam loop can run (on files and streams where there is no camera); 1 where a
problem stops it; 2 for wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m iern.runtime.doctor",
        description="Say what is installed, what the webcam loop will use, and how to mend what stops it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: schema, ok, findings")
    parser.add_argument(
        "--model",
        type=Path,
        default=MODEL,
        metavar="FILE",
        help="exported .onnx or .engine to try (default: the bundled)",
    )
    options = parser.parse_args(argv)
    findings: list[Finding] = []
    for finding in examine(options.model):
        findings.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    stopped = [finding.name for finding in findings if finding.state == "problem"]
    if options.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"schema": 1, "ok": not stopped, "findings": listed}, indent=1))
    else:
        print(f"\nthe webcam loop cannot run: {', '.join(stopped)}" if stopped else "\nthe webcam loop can run")
    return 1 if stopped else 0


def _line(finding: Finding) -> str:
    line = f"{finding.state:<9}{finding.name:<13}{finding.text}"
    return line + (f"\n{'':22}-> {finding.remedy}" if finding.remedy else "")


if __name__ == "__main__":
    sys.exit(main())
