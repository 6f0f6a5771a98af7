"""Import this first: where `iern` is not installed, it is taken from this checkout, and no pip is needed.

`.typecheck/iern` links to the four packages under their import names. The cases that the kernel's tests use lie in
`tests`, which goes to the end of the path.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ROOT / ".typecheck"
INSTALLED = importlib.util.find_spec("iern") is not None

if not INSTALLED:
    sys.path.append(str(PACKAGES))
if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))


def environment() -> dict[str, str]:
    """Variables for another Python that is to find the same `iern`."""
    if INSTALLED:
        return dict(os.environ)
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
