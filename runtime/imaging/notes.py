"""What a source of image files reports at its end: files that are unreadable, no images, damaged, or read in part."""

from __future__ import annotations

from collections.abc import Sequence

from iern.runtime.errors import ImageError
from iern.runtime.imaging.images import ImageFile, describe_count, describe_damage


class ImageNotes:
    """Counts what is wrong with the files of a source, and keeps the first of each kind in words."""

    def __init__(self, total: int, others: Sequence[str]) -> None:
        """`total` is the number of images, `others` are the names of files beside them that are no images."""
        self.first_unreadable = ""
        self._total = total
        self._others = others
        self._unreadable = self._damaged = self._several = 0
        self._first_damaged = self._first_several = ""

    def add_unreadable(self, error: ImageError) -> None:
        """Count an image that cannot be read."""
        self._unreadable += 1
        self.first_unreadable = self.first_unreadable or str(error)

    def add(self, name: str, file: ImageFile) -> None:
        """Count an image that was read."""
        if file.damage:
            self._damaged += 1
            self._first_damaged = self._first_damaged or f"{name} {describe_damage(file)}"
        if file.count > 1:
            self._several += 1
            self._first_several = self._first_several or f"{name} {describe_count(file)}"

    def text(self) -> str:
        """All of it in one line; empty if nothing is wrong."""
        parts = []
        if self._unreadable:
            parts.append(f"skipped {self._unreadable} of {self._total} images; the first: {self.first_unreadable}")
        if self._others:
            no_images = "file is no image and was" if len(self._others) == 1 else "files are no images and were"
            parts.append(f"{len(self._others)} {no_images} skipped, the first is {self._others[0]}")
        if self._damaged:
            parts.append(_with_count(self._first_damaged, self._damaged, "damaged images"))
        if self._several:
            parts.append(_with_count(self._first_several, self._several, "files of several images"))
        return "; ".join(parts)


def _with_count(first: str, count: int, kind: str) -> str:
    return first if count == 1 else f"{count} {kind}; the first: {first}"
