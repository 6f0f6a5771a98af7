"""Commands in error messages, such that they work for the reader: in a checkout, or with an installed wheel."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file()
"""Whether this file is in a checkout. In an installed wheel its folder has no packaging beside it."""


def run_script(script: str) -> str:
    """`export/to_trt.py` -> the words that run it: its path in a checkout, otherwise its module."""
    return f"python {script}" if IN_CHECKOUT else f"python -m iern.{script.removesuffix('.py').replace('/', '.')}"
