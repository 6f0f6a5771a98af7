"""Command: print what is installed, what the webcam loop will use and why, and how to fix what stops it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 (pip refuses such a Python, but a copied folder does not)
    sys.exit(f"problem: Python {sys.version.split()[0]} is too old; install 3.10 or newer, and iern into it")
try:
    from iern.runtime.system.command import command

    from iern.runtime.bundled import MODEL
    from iern.runtime.doctor.findings import Finding
    from iern.runtime.doctor.report import examine
    from iern.runtime.system.arguments import Parser
except ModuleNotFoundError as error:
    if not str(error.name).startswith("iern"):
        raise
    sys.exit("problem: iern is not installed in this Python; in the repository: pip install -e '.[cpu]'")

EPILOG = """\
Each line of the report has a state. "ok": it works. "note": worth knowing, but the loop runs without it.
"problem": the loop cannot run; the line below it is the remedy. Libraries that may crash or hang are checked
in processes of their own.

Exit status: 0 if the webcam loop can run (on files and streams if there is no camera); 1 if a problem stops
it; 2 for wrong usage.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. The status is 0 if the loop can run, and 1 if it cannot."""
    parser = Parser(
        prog="python -m iern.runtime.doctor",
        description="Print what is installed, what the webcam loop will use, and how to fix what stops it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: schema, ok, findings")
    parser.add_argument(
        "--model",
        type=Path,
        default=MODEL,
        metavar="FILE",
        help="exported .onnx or .engine to check, or triton://HOST:PORT/MODEL (default: the bundled one)",
    )
    options = parser.parse_args(argv)
    findings: list[Finding] = []
    for finding in examine(options.model):
        findings.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    problems = [finding.name for finding in findings if finding.state == "problem"]
    if options.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"schema": 1, "ok": not problems, "findings": listed}, indent=1))
    else:
        print(f"\nthe webcam loop cannot run: {', '.join(problems)}" if problems else "\nthe webcam loop can run")
    return 1 if problems else 0


def _line(finding: Finding) -> str:
    line = f"{finding.state:<9}{finding.name:<13}{finding.text}"
    return line + (f"\n{'':22}-> {finding.remedy}" if finding.remedy else "")


if __name__ == "__main__":
    sys.exit(main())
