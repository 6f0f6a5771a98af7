"""Faces in batches, read by worker processes that leave processors and Ctrl-C to the trainer."""

from __future__ import annotations

import signal
import threading
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset


def face_loader(faces: Dataset, workers: int, **options: Any) -> DataLoader:
    """A DataLoader over a FaceDataset or a part of one. `options` are those of DataLoader, such as `batch_size`."""
    return _Loader(faces, num_workers=workers, worker_init_fn=_quiet_worker, **options)


class _Loader(DataLoader):
    def __iter__(self) -> Any:
        _await_feeders()
        return super().__iter__()


def _await_feeders() -> None:
    """Wait until the threads that fed the workers of an earlier loader have ended.

    A thread holds a lock when it ends. A worker that is forked at that moment inherits the locked lock and waits
    forever (CPython 3.11 and older).
    """
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":
            thread.join(timeout=10)


def _quiet_worker(_: int) -> None:
    """A worker uses one thread, and leaves Ctrl-C to its parent."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
