"""A face under the condition of another face, without knowing what the condition does: Fourier domain adaptation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.images import Image
from iern.train.data.degrade import rounded

SHARE = 0.05
"""Half the side of the square of low frequencies that are exchanged, over the image's. The authors use 0.01 to 0.09."""


def with_style(face: Image, style: Image) -> Image:
    """(S, S, 3) uint8 twice -> the first with the second's amplitudes at low frequencies (Yang and Soatto 2020).

    Colour, light and coarse shading come from `style`; the phases, and so the features, come from `face`.
    """
    own, other = _spectrum(face), _spectrum(style)
    amplitude, reach = np.abs(own), int(SHARE * len(face))
    middle = slice(len(face) // 2 - reach, len(face) // 2 + reach + 1)
    amplitude[middle, middle] = np.abs(other)[middle, middle]
    changed = amplitude * np.exp(1j * np.angle(own))
    return rounded(np.fft.ifft2(np.fft.ifftshift(changed, axes=(0, 1)), axes=(0, 1)).real)


def _spectrum(image: Image) -> NDArray[np.complex128]:
    """(S, S, 3) -> its spectrum, with the mean in the middle."""
    return np.fft.fftshift(np.fft.fft2(image.astype(np.float64), axes=(0, 1)), axes=(0, 1))
