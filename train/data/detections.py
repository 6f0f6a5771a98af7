"""Where the faces are in training images, so that training cuts them as the runtime does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import Detection, largest
from iern.runtime.imaging.images import read_image
from iern.runtime.system.cpu_budget import cpu_budget


def find_faces(paths: Sequence[Path], on_image: Callable[[], object] = lambda: None) -> list[Detection | None]:
    """The largest face of each image file; None where the detector finds none. `on_image` is called after each image.

    Raises ImageError if an image cannot be read.
    """
    workers = cpu_budget()
    # Each worker has a detector that uses its thread alone.
    spare, own = [FaceDetector(threads=1) for _ in range(workers)], threading.local()

    def find(path: Path) -> Detection | None:
        if not hasattr(own, "detector"):
            own.detector = spare.pop()
        found = largest(own.detector(read_image(path)))
        on_image()
        return found

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(find, paths))
