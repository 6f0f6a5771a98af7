"""A picture with what the loop draws on its faces, for callers of the library."""

from __future__ import annotations

from collections.abc import Sequence

from iern.runtime.drawing.overlay import draw
from iern.runtime.faces.face import Face
from iern.runtime.faces.table import checked_faces
from iern.runtime.imaging.any_image import AnyImage, to_image
from iern.runtime.imaging.images import Image


def annotate(image: AnyImage, faces: Sequence[Face], *, strata: bool = False) -> Image:
    """A picture and its faces -> a new (H, W, 3) uint8 BGR picture with boxes, expressions and bars for probabilities.

    `image` is what a recognizer takes as one picture, and is not changed. With `strata`, each expression has thinner
    bars for its probability under each stratum. The result is in OpenCV's order: `cv2.imwrite("out.png", result)`.
    Raises ImageError if the picture cannot be read or is none, and ArgumentError if `faces` is not a list of faces.
    """
    return draw(to_image(image), checked_faces(faces), status="", strata=strata)
