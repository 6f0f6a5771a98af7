"""Data sets of a few random pictures, for tests of the training side."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

EXPRESSIONS = ("happy", "neutral", "sad")
STRATA = ("film", "web")


def write_image(path: Path, seed: int) -> None:
    """Write a random picture of 24 to 48 pixels a side, without loss."""
    random = np.random.default_rng(seed)
    height, width = random.integers(24, 49, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), random.integers(0, 256, (height, width, 3), np.uint8))


def write_manifest(root: Path, rows: Sequence[dict[str, Any]], encoding: str = "utf-8") -> Path:
    """Write the rows to `root/manifest.csv`, with the columns of the first one; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "manifest.csv", "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def write_faces(root: Path, training: int, testing: int = 0) -> Path:
    """Write `training` + `testing` pictures of all expressions and strata, with a manifest; returns `root`."""
    rows = []
    for i in range(training + testing):
        expression, stratum = EXPRESSIONS[i % 3], STRATA[i // 3 % 2]
        split = "train" if i < training else "test"
        rows.append({"path": f"{i}.png", "expression": expression, "confounder": stratum, "split": split})
        write_image(root / f"{i}.png", i)
    return write_manifest(root, rows)
