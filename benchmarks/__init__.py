"""Questions answered by measuring, one folder each: `python -m benchmarks.<folder> --help` in the repository's root.

If `iern` is not installed, it is imported from this checkout, so that a machine needs no pip: `.typecheck/iern` links
to the four packages under their import names.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ROOT / ".typecheck"
INSTALLED = importlib.util.find_spec("iern") is not None

if not INSTALLED:
    sys.path.append(str(PACKAGES))


def environment() -> dict[str, str]:
    """Environment variables with which another Python process imports the same `iern`."""
    if INSTALLED:
        return dict(os.environ)
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
