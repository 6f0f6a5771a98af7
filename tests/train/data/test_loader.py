"""The workers of a loader start when no thread of an earlier loader is about to end."""

from __future__ import annotations

import threading
from multiprocessing.process import BaseProcess

import torch
from torch.utils.data import TensorDataset

from iern.train.data.loader import face_loader

FEEDER = "QueueFeederThread"


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == FEEDER]


def test_workers_start_only_when_the_threads_of_an_earlier_loader_have_ended(monkeypatch):
    """Such a thread is made here, which ends a moment later; what is watched is the fork itself."""
    found: list[int] = []
    start = BaseProcess.start
    monkeypatch.setattr(BaseProcess, "start", lambda process: (found.append(len(feeders())), start(process)))
    loader = face_loader(TensorDataset(torch.arange(6)), 1, batch_size=2)
    for _ in range(2):
        ending = threading.Event()
        earlier = threading.Thread(target=ending.wait, args=(0.3,), name=FEEDER)
        earlier.start()
        assert [batch.tolist() for (batch,) in loader] == [[0, 1], [2, 3], [4, 5]]
    assert found == [0, 0]


def test_a_worker_uses_one_thread():
    class Threads(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> int:
            return torch.get_num_threads()

    assert [int(found) for found in face_loader(Threads(), 1)] == [1]
