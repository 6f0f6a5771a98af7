"""Wrinkles: where contracted muscles fold the skin, as textures of depth over the neutral face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from iern.train.rendered.expressions import Contraction
from iern.train.rendered.face_map import HEIGHT, TEXELS, WIDTH, Noise, blob, blur, texels
from iern.train.rendered.kit import Floats

ROWS = 620
"""Rows of the textures with wrinkles: there are none below the chin."""
DEEPEST = 1.6
"""The most that contractions deepen a wrinkle."""
SUBPIXEL_BITS = 4
ALWAYS = ("lid", "fold", "foldup")
"""Wrinkles of which every face has every line."""


@dataclass(frozen=True)
class Crease:
    """A line of the left side of the face."""

    line: np.ndarray
    """(n, 2) x and y."""
    depth: float
    width: float


def _arc(left: float, right: float, y: float, rise: float) -> np.ndarray:
    """(9, 2) a line from (left, y) to (right, y) that rises between them."""
    x = np.linspace(left, right, 9)
    t = (x - left) / (right - left) * 2 - 1
    return np.stack([x, y + rise * (1 - t * t)], 1)


def _creases(*creases: tuple[object, float, float]) -> tuple[Crease, ...]:
    return tuple(Crease(np.array(line, float), depth, width) for line, depth, width in creases)


CREASES: dict[str, tuple[Crease, ...]] = {
    "glabella": _creases(
        ([[0.50, 4.7], [0.62, 5.5], [0.85, 6.6]], 1.0, 0.16), ([[1.0, 4.9], [1.15, 5.6], [1.5, 6.3]], 0.6, 0.15)
    ),
    "above_brow": _creases(([[1.2, 6.8], [2.0, 7.2], [3.0, 7.3]], 0.5, 0.22)),
    "inner_forehead": _creases(
        (_arc(0, 2.6, 7.3, 0.25), 0.9, 0.15), (_arc(0, 3.0, 8.15, 0.2), 1.0, 0.16), (_arc(0, 2.8, 9.0, 0.15), 0.7, 0.16)
    ),
    "outer_forehead": _creases(
        (_arc(1.8, 5.6, 6.9, 0.35), 0.8, 0.15),
        (_arc(2.2, 5.8, 7.8, 0.35), 1.0, 0.16),
        (_arc(2.0, 5.4, 8.7, 0.3), 0.7, 0.16),
    ),
    "bridge": _creases(
        ([[0, 4.3], [0.5, 4.25], [0.9, 4.4]], 0.8, 0.13),
        ([[0, 3.8], [0.5, 3.7], [0.8, 3.75]], 0.9, 0.13),
        ([[0.5, 3.0], [0.9, 2.7], [1.3, 2.2]], 1.0, 0.13),
        ([[0.7, 3.4], [1.2, 3.0], [1.6, 2.4]], 0.8, 0.13),
        ([[0.5, 2.5], [0.9, 2.1], [1.2, 1.6]], 0.7, 0.13),
    ),
    "fold": _creases(([[1.75, 0.1], [2.3, -0.6], [2.8, -1.5], [3.2, -2.4], [3.45, -3.4]], 1.3, 0.2)),
    "foldup": _creases(([[1.6, 0.6], [2.1, 0.0], [2.5, -0.8], [2.8, -1.7], [3.0, -2.4]], 1.4, 0.2)),
    "crow": _creases(
        ([[5.0, 3.7], [5.6, 4.0], [6.3, 4.5]], 0.8, 0.12),
        ([[5.05, 3.35], [5.8, 3.4], [6.5, 3.5]], 1.0, 0.12),
        ([[4.95, 3.0], [5.6, 2.7], [6.3, 2.4]], 0.9, 0.12),
        ([[4.7, 2.7], [5.3, 2.2], [5.9, 1.7]], 0.6, 0.12),
    ),
    "under_eye": _creases((_arc(1.7, 4.6, 2.55, -0.55), 1.0, 0.14), (_arc(1.9, 4.9, 2.05, -0.65), 0.7, 0.16)),
    "smile": _creases(([[3.2, -2.8], [3.45, -3.5], [3.4, -4.2]], 0.8, 0.16)),
    "marionette": _creases(([[2.6, -3.8], [2.95, -4.5], [3.15, -5.4]], 1.1, 0.18)),
    "above_chin": _creases((_arc(0, 1.6, -5.25, 0.15), 1.0, 0.22)),
    "stretch": _creases(
        ([[2.9, -3.0], [3.3, -3.6], [3.3, -4.4]], 0.8, 0.16), ([[3.5, -2.6], [3.9, -3.6], [3.9, -4.8]], 0.6, 0.18)
    ),
    "upper_lip": _creases(([[0.5, -1.6], [0.55, -2.1]], 0.5, 0.1), ([[1.1, -1.7], [1.25, -2.3]], 0.5, 0.1)),
    "lid": _creases((_arc(1.75, 4.75, 4.05, 0.55), 0.8, 0.11)),
}
"""Name -> the lines on the left. `fold` is from the nose to the corner of the mouth, `foldup` beside the nose."""
CHIN = "chin"
"""The dimples of a raised chin."""


def draw_wrinkles(amount: float, noise: Noise, rng: np.random.Generator) -> dict[str, Floats]:
    """-> name, with its side -> (ROWS, WIDTH) depth of a person's wrinkle at full contraction."""
    wrinkles = {
        f"{name}_{side}": _draw(name, sign, amount, rng) for name in CREASES for side, sign in (("L", 1), ("R", -1))
    }
    wrinkles[CHIN] = (blob(0, -6.3, 1.2, 0.9) * np.maximum(noise(4, rng), 0) * 0.5 * amount)[:ROWS]
    return wrinkles


def _draw(name: str, sign: int, amount: float, rng: np.random.Generator) -> Floats:
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    for crease in CREASES[name]:
        if rng.random() < 0.15 and name not in ALWAYS:
            continue
        from_middle = crease.line[0, 0] == 0
        line = crease.line * [sign, 1] + rng.normal(0, 0.12, 2) * (not from_middle)
        line += rng.normal(0, 0.05, line.shape)
        if from_middle:
            line[0] = crease.line[0]  # both sides meet there
        deepest = np.float32(crease.depth * rng.uniform(0.6, 1.3) * amount)
        _deepen(depth, texels(line), crease.width * TEXELS * 0.6, deepest)
    return depth[:ROWS].copy()


def _deepen(depth: Floats, line: np.ndarray, sigma: float, deepest: np.float32) -> None:
    """Deepen a texture along a line (n, 2) in texels."""
    low = np.maximum(line.min(0).astype(int) - 16, 0)
    high = line.max(0).astype(int) + 16
    groove = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    points = np.rint((line - low) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.polylines(groove, [points], False, 255, 2, cv2.LINE_AA, SUBPIXEL_BITS)
    soft = blur(groove.astype(np.float32), sigma)
    region = depth[low[1] : high[1], low[0] : high[0]]
    soft = soft[: region.shape[0], : region.shape[1]] * (deepest / max(soft.max(), 1))
    np.maximum(region, soft, out=region)


def relief(wrinkles: Mapping[str, Floats], contraction: Contraction) -> Floats:
    """-> (ROWS, WIDTH) depth of the skin's folds under these muscles."""
    depth = np.zeros((ROWS, WIDTH), np.float32)
    for name, weight in _weights(contraction).items():
        if weight > 0.02:
            depth += wrinkles[name] * np.float32(min(weight, DEEPEST))
    return depth


def _weights(contraction: Contraction) -> dict[str, float]:
    """-> name of a wrinkle -> how much of its full depth the muscles give it. Some show a little at rest."""
    weights = {f"{name}_{side}": weight for side in "LR" for name, weight in _side_weights(contraction, side).items()}
    frown = (contraction.of("mouthFrown", "L") + contraction.of("mouthFrown", "R")) / 2
    return {**weights, CHIN: 1.1 * contraction.of("mouthShrugLower") + 0.4 * frown}


def _side_weights(contraction: Contraction, side: str) -> dict[str, float]:
    of = contraction.of
    brow_down, sneer, squint = of("browDown", side), of("noseSneer", side), of("eyeSquint", side)
    cheek_squint, cheek_raiser = of("cheekSquint", side), of("cheekRaiser", side)
    smile, frown, press = of("mouthSmile", side), of("mouthFrown", side), of("mouthPress", side)
    stretch = of("mouthStretch", side)
    free_forehead = max(0.0, 1 - 0.5 * brow_down)
    return {
        "glabella": 0.15 + 1.2 * brow_down + 0.4 * sneer,
        "above_brow": 0.8 * brow_down,
        "inner_forehead": 0.1 + 1.1 * of("browInnerUp", side) * max(free_forehead, 0.6),
        "outer_forehead": 0.08 + 1.1 * of("browOuterUp", side) * free_forehead,
        "bridge": 1.2 * sneer + 0.15 * brow_down,
        "fold": 0.15 + 0.9 * smile + 0.5 * stretch + 0.4 * cheek_squint,
        "foldup": 1.1 * sneer + 0.9 * of("mouthUpperUp", side) + 0.3 * frown,
        "crow": 0.05 + 0.9 * cheek_squint + 0.6 * cheek_raiser + 0.5 * squint + 0.3 * smile,
        "under_eye": 0.2 + 0.9 * cheek_squint + 0.7 * cheek_raiser + 0.7 * squint + 0.3 * sneer,
        "smile": 0.7 * smile + 0.8 * of("mouthDimple", side) + 0.3 * press,
        "marionette": 0.08 + 1.1 * frown + 0.3 * press + 0.3 * of("mouthShrugLower"),
        "above_chin": 0.15 + 0.8 * of("mouthShrugLower") + 0.4 * press + 0.4 * of("mouthRollLower"),
        "stretch": 1.1 * stretch,
        "upper_lip": 0.8 * of("mouthPucker") + 0.5 * of("mouthFunnel") + 0.4 * of("mouthRollUpper"),
        "lid": max(0.0, 0.6 - 0.6 * of("eyeBlink", side)),
    }
