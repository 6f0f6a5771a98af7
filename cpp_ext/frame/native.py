"""The arguments of the kernels in frame.cu, their names, and the size of a launch."""

from __future__ import annotations

import ctypes

CROP_THREADS = 128
"""Threads per block of `crop_faces_*`, as in frame.h."""
ROWS_THREADS = 256
"""Threads per block of `rows_of_faces`, as in frame.h."""
ROWS = "rows_of_faces"
CROP_BYTES, CROP_HALF = "crop_faces_bytes", "crop_faces_half"
KERNELS = (ROWS, CROP_BYTES, CROP_HALF)


class Crop(ctypes.Structure):
    """`struct Crop` of frame.h: addresses on the device, then sizes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("frame", "landmarks", "count", "faces")),
        *((name, ctypes.c_int) for name in ("height", "width", "row_bytes", "stride", "most", "size")),
        *((name, ctypes.c_float) for name in ("margin", "scale_x", "scale_y")),
        ("mean_face", ctypes.c_float * 10),
        ("mean", ctypes.c_float * 3),
        ("deviation", ctypes.c_float * 3),
    )


class Rows(ctypes.Structure):
    """`struct Rows` of frame.h: addresses on the device, then sizes."""

    _fields_ = (
        ("outputs", ctypes.c_void_p * 12),
        *((name, ctypes.c_void_p) for name in ("scores", "rows", "counts")),
        *((name, ctypes.c_int) for name in ("pictures", "height", "width", "most")),
        *((name, ctypes.c_float) for name in ("score", "overlap")),
    )


def crop_grid(most: int, size: int) -> tuple[int, int, int]:
    """The grid of a launch of `crop_faces_*`. Its blocks have CROP_THREADS threads."""
    return -(-size * size // CROP_THREADS), most, 1


def rows_grid(pictures: int) -> tuple[int, int, int]:
    """The grid of a launch of `rows_of_faces`. Its blocks have ROWS_THREADS threads."""
    return pictures, 1, 1


def cells(height: int, width: int) -> int:
    """The cells of a picture at all strides: the length of its part of the workspace `scores`."""
    return sum((height // stride) * (width // stride) for stride in (8, 16, 32))
