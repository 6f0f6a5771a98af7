"""What a benchmark measured: its JSON file, and the page beside it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iern.runtime.system.files import write_text

Results = Mapping[str, Any]
"""The content of a results file, or an object in it: plain types."""


def write_json(path: Path, results: Results) -> None:
    """Write the results, whole or not at all."""
    write_text(path, json.dumps(results, indent=1) + "\n")


def write_with_page(path: Path, results: Results, page: str) -> Path:
    """Write the results and, beside them, their page; return the page's path."""
    write_json(path, results)
    page_path = path.with_suffix(".md")
    write_text(page_path, page)
    return page_path


def json_path(text: str) -> Path:
    """An argparse type: a path that ends in .json, so that the page beside it is another file."""
    if Path(text).suffix.lower() != ".json":
        raise argparse.ArgumentTypeError(f"{text!r} must end in .json")
    return Path(text)
