"""The skin of a person: its colour over the neutral face, with lips, make-up, beard and brows.

Colours are linear red, green and blue, as shares of the light that is reflected.
"""

from __future__ import annotations

import cv2
import numpy as np

from iern.train.rendered.face_map import HEIGHT, WIDTH, Noise, Regions, blob, blur, smoothstep, texels
from iern.train.rendered.kit import Floats

TONES = np.array(
    [
        (0.045, 0.022, 0.013),
        (0.10, 0.050, 0.028),
        (0.20, 0.105, 0.060),
        (0.34, 0.20, 0.125),
        (0.50, 0.325, 0.225),
        (0.64, 0.45, 0.345),
        (0.72, 0.54, 0.45),
    ],
    np.float32,
)
"""Skin from dark to light."""
LIPSTICK = np.array([0.42, 0.05, 0.06], np.float32)
EYELINER = np.array([0.01, 0.008, 0.01], np.float32)
BEARDS = {"none": 0.45, "stubble": 0.27, "full": 0.14, "moustache": 0.06, "goatee": 0.08}
"""Beard -> share of the men."""
BROW = np.array([(1.15, 5.65), (2.4, 6.0), (3.8, 6.2), (4.9, 5.95), (5.85, 5.2)])
"""(5, 2) the middle of the left brow, from its inner end."""
ALONG_BROW = np.linspace(0, 1, len(BROW))
BROW_HAIRS = 420
SUBPIXEL_BITS = 3


def skin_colour(tone: float, rng: np.random.Generator) -> Floats:
    """A tone from 0, dark, to 1, light -> (3,) colour, varied a little."""
    position = tone * (len(TONES) - 1)
    below = min(int(position), len(TONES) - 2)
    share = position - below
    colour = TONES[below] * (1 - share) + TONES[below + 1] * share
    return colour * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)


class Painter:
    """Paints the albedo of one person, a texture (HEIGHT, WIDTH, 3), layer on layer."""

    def __init__(
        self, base: Floats, tone: float, hair: Floats, regions: Regions, noise: Noise, rng: np.random.Generator
    ) -> None:
        """`base` and `hair` are the colours of skin and hair."""
        self.base, self.tone, self.hair = base, tone, hair
        self.regions, self.noise, self.rng = regions, noise, rng
        self.albedo = np.empty((HEIGHT, WIDTH, 3), np.float32)
        self.albedo[:] = base

    def paint_skin(self) -> None:
        """Blotches, redness, shadows around the eyes, freckles and moles."""
        rng, noise, regions = self.rng, self.noise, self.regions
        blotches = 1 + 0.05 * noise(120, rng) + 0.035 * noise(40, rng) + 0.03 * noise(12, rng)
        self.albedo *= (blotches + 0.03 * noise(4, rng) * rng.uniform(0.3, 1))[..., None]
        red = regions.cheeks * rng.uniform(0, 0.8) * (1 + 0.25 * noise(40, rng)) + regions.nose * rng.uniform(0, 0.6)
        red = np.clip(red + regions.under_eyes * 0.15 + 0.10 * noise(40, rng), -0.2, 1.4)
        lightness = 0.3 + 0.7 * self.tone  # blood shows less through dark skin
        self._darken(red, (0.02, 0.20 * lightness, 0.17 * lightness))
        shadows = regions.under_eyes * rng.uniform(0, 0.3) + regions.lids * rng.uniform(0, 0.25)
        self._darken(shadows, (0.8, 1, 0.9))
        if rng.random() < 0.25:
            spots = np.clip(noise(1.5, rng) - 1.6, 0, 1) * np.clip(regions.cheeks + regions.nose + 0.25, 0, 1)
            self._darken(blur(spots * np.float32(rng.uniform(0.2, 0.6)), 1), (0.5, 0.75, 0.9))
        for _ in range(rng.integers(0, 4)):
            mole = blob(rng.uniform(-6, 6), rng.uniform(-6, 9), 0.1, 0.1)
            self._darken(mole * rng.uniform(0.3, 0.8), (1, 1, 1))

    def paint_lips(self, female: bool) -> None:
        """Lips, some with lipstick."""
        rng = self.rng
        colour = self.base * np.array([1.0, 0.62, 0.62], np.float32) * rng.uniform(0.7, 1.0)
        if female and rng.random() < 0.45:
            hue = rng.uniform(0.3, 0.8) * np.array([1, rng.uniform(0.6, 2.5), rng.uniform(0.6, 2.5)], np.float32)
            colour = LIPSTICK * hue * 0.8 + self.base * 0.15
        cover = np.clip(self.regions.lips * 1.15, 0, 1) * rng.uniform(0.55, 0.95)
        self._cover(cover, colour * (1 + 0.06 * self.noise(4, rng))[..., None])

    def paint_eyeliner(self) -> None:
        """A line around the eyes, and a little shadow."""
        self._cover(self.regions.eyeliner * self.rng.uniform(0.2, 0.7), EYELINER)

    def paint_beard(self) -> None:
        """A beard of a random kind, or none."""
        rng, noise, regions = self.rng, self.noise, self.regions
        kind = str(rng.choice(list(BEARDS), p=list(BEARDS.values())))
        if kind == "none":
            return
        stubble = kind == "stubble"
        region = {"moustache": regions.moustache, "goatee": regions.goatee}.get(kind, regions.beard)
        density = rng.uniform(0.1, 0.45) if stubble else rng.uniform(0.6, 0.95)
        hairs = np.clip((0.6 if stubble else 0.75) + (0.4 if stubble else 0.3) * noise(1.5, rng), 0, 1.2)
        shape = smoothstep(region + 0.12 * noise(12, rng) * (region > 0.05), 0.15, 0.7)
        colour = self.hair * 0.8 + (self.base * 0.12 if stubble else 0)
        shades = np.clip(1 + 0.25 * noise(1.5, rng), 0.3, 2)[..., None]
        self._cover(np.clip(shape * density * hairs, 0, 0.97), colour * shades)

    def paint_brows(self, female: bool) -> None:
        """Brows of single hairs along a curve of random height, tilt and arch."""
        rng = self.rng
        if self.hair.max() < 0.4:
            colour = self.hair * rng.uniform(0.4, 0.9)
            colour = colour + self.base * np.array([1, 0.8, 0.7], np.float32) * rng.uniform(0.03, 0.15)
        else:
            colour = self.base * 0.3 + self.hair * rng.uniform(0, 0.4)
        thickness = rng.uniform(0.16, 0.34) if female else rng.uniform(0.24, 0.5)
        count = int(BROW_HAIRS * rng.uniform(0.45, 1.0))
        curve = self._brow_curve()
        hairs = np.zeros((HEIGHT, WIDTH), np.uint8)
        for side in (1, -1):
            self._draw_brow(hairs, curve, side, thickness, count)
        ink = hairs.astype(np.float32) / np.float32(255)
        cover = np.clip(blur(ink, 0.9) * 1.25 + blur(ink, 4) * 0.35, 0, 1)
        self._cover((cover * rng.uniform(0.75, 1)).astype(np.float32), colour)

    def _brow_curve(self) -> np.ndarray:
        """(5, 2) the middle of the left brow."""
        rng = self.rng
        height, tilt = rng.uniform(-0.55, 0.05), rng.normal(0, 0.15)
        arch, gap = rng.uniform(-0.15, 0.3), rng.normal(0, 0.15)
        curve = BROW.copy()
        curve[0, 0] += gap
        curve[:, 1] += height + tilt * (curve[:, 0] - 3.4) / 2.4
        curve[2:4, 1] += arch
        return curve

    def _draw_brow(self, hairs: np.ndarray, curve: np.ndarray, side: int, thickness: float, count: int) -> None:
        """Draw the hairs of one brow: they point up at its inner end, along it in the middle, down at its outer end."""
        rng = self.rng
        along = rng.uniform(0, 1, count)
        middle = np.stack([np.interp(along, ALONG_BROW, curve[:, axis]) for axis in (0, 1)], 1)
        offset = rng.uniform(-1, 1, count) * thickness * np.interp(along, [0, 0.1, 0.5, 1], [0.75, 1, 0.85, 0.25])
        angle = np.interp(along, [0, 0.15, 0.5, 1], [1.3, 0.8, 0.25, -0.45]) + rng.normal(0, 0.2, count) - offset * 0.5
        length = rng.uniform(0.25, 0.5, count) * 0.8
        roots = middle * [side, 1] + np.stack([np.zeros(count), offset], 1)
        tips = roots + np.stack([side * np.cos(angle), np.sin(angle)], 1) * length[:, None]
        ends = np.rint(texels(np.stack([roots, tips], 1)) * (1 << SUBPIXEL_BITS)).astype(int)
        for root, tip in ends.tolist():
            cv2.line(hairs, root, tip, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)

    def _darken(self, amount: Floats, colour: tuple[float, float, float]) -> None:
        """Take away a share of each colour."""
        self.albedo *= 1 - amount[..., None] * np.array(colour, np.float32)

    def _cover(self, cover: Floats, colour: Floats) -> None:
        """Mix with a colour, (3,) or one for each texel, by the share `cover`."""
        cover = cover[..., None]
        self.albedo = (self.albedo * (1 - cover) + colour * cover).astype(np.float32)
