"""The figures and the file table of docs/kernel.md are right."""

from __future__ import annotations

import math
import re

from iern.cpp_ext import native
from repository import ROOT

PAGE = (ROOT / "docs" / "kernel.md").read_text(encoding="utf-8")


def test_the_bytes_are_those_of_the_arrays():
    rows = re.findall(r"^\|" + 7 * r" (\d+) \|" + "$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    half, single, expressions, pixels, sums = 2, 4, 6, 7 * 7, 10
    for row in rows:
        width, strata, *counts = map(int, row)
        weights = sums * width * expressions
        assert counts == [
            2 * half * strata * width * pixels,
            half * weights,
            2 * half * sums * strata * width,
            single * weights,
            2 * single * math.prod(native.partials_shape(1, strata, width, expressions)),
        ]


def test_every_file_of_the_kernel_is_described():
    files = {path.name for path in (ROOT / "cpp_ext").iterdir() if path.suffix in (".cu", ".cpp", ".h", ".py")}
    missing = {name for name in files - {"__init__.py"} if name not in PAGE}
    assert not missing
