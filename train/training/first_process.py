"""Work that one process of several does for all of them, such as reading every image once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast

from lightning_fabric import Fabric

from iern.runtime.errors import IernError, TrainingError

LONGEST_WAIT = timedelta(hours=4)
"""How long processes wait for one that reads all images. PyTorch's half an hour is too short for a large data set."""

T = TypeVar("T")


def in_first_process(fabric: Fabric, work: Callable[[], T]) -> T:
    """Let one process work while the others wait, and return its result in all of them.

    If it fails, all of them raise its message as a TrainingError, so that none waits for the others.
    """
    result, failure = None, None
    if fabric.global_rank == 0:
        try:
            result = work()
        except (IernError, OSError) as error:
            failure = str(error)
    result, failure = fabric.broadcast((result, failure))
    if failure is not None:
        raise TrainingError(failure)
    return cast(T, result)
