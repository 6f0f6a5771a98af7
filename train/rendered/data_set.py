"""A data set of rendered heads: planned as a list of samples, rendered by several processes, written as files.

People are split, not pictures: no person is in both `train` and `valid`. A picture depends on the seed and on its own
number, so that the set is the same whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import Image
from iern.runtime.system.files import write_errors
from iern.runtime.system.opencv import limit_opencv
from iern.runtime.system.signals import on_signals
from iern.train.data.made_set import encoded, manifest, refuse_content, temporary_beside
from iern.train.data.manifest import MANIFEST
from iern.train.rendered.expressions import EXPRESSIONS, contract, shape_names
from iern.train.rendered.head import HeadModel, head_model
from iern.train.rendered.kit import read_kit
from iern.train.rendered.person import Person, draw_person
from iern.train.rendered.picture import render

PICTURES_OF_A_PERSON = 15
VALID_EVERY = 10
"""One person in this many is for validation."""
MOST_TRIES = 20
"""Drawings of a sample in which no face is found before the set is given up."""
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Track = Callable[[Iterable[bytes]], Iterable[bytes]]


@dataclass(frozen=True)
class RenderedSample:
    """One picture of the set, by its number."""

    number: int

    confounder = "rendered"

    @property
    def person(self) -> int:
        """The number of the person."""
        return self.number // PICTURES_OF_A_PERSON

    @property
    def subject(self) -> str:
        """The person's name in the manifest."""
        return f"rendered{self.person:06d}"

    @property
    def split(self) -> str:
        """`train` or `valid`."""
        return "valid" if self.person % VALID_EVERY == VALID_EVERY - 1 else "train"

    @property
    def expression(self) -> str:
        """The expressions take turns."""
        return EXPRESSIONS[self.number % len(EXPRESSIONS)]

    @property
    def path(self) -> str:
        """The path of the picture below the set's root, with forward slashes."""
        return f"{self.expression}/{self.number // len(EXPRESSIONS):05d}.jpg"


def plan(count: int) -> list[RenderedSample]:
    """-> the samples of a set with `count` pictures of each expression, person by person."""
    return [RenderedSample(number) for number in range(count * len(EXPRESSIONS))]


def write(
    kit: Path, out: Path, samples: Sequence[RenderedSample], seed: int, workers: int, track: Track = iter
) -> None:
    """Render the samples with the face model in the folder `kit`, and write them with their manifest to `out`.

    The folder appears when it is complete. `track` may wrap the pictures to show progress. Call it in the main thread:
    Ctrl-C and SIGTERM end the processes, and what was written is removed.

    Raises DataError, and changes nothing, if `out` holds files, if the kit cannot be read, if the detector finds no
    face in what is rendered, or if a process is killed. Raises OutputError if the set cannot be written.
    """
    out = out.resolve()
    refuse_content(out)
    model = head_model(read_kit(kit, shape_names()))
    with write_errors(out), on_signals(_interrupt, (signal.SIGTERM,)), temporary_beside(out) as temporary:
        new = temporary / "new"
        for expression in EXPRESSIONS:
            (new / expression).mkdir(parents=True)
        with contextlib.closing(_render_all(model, samples, seed, workers)) as pictures:
            for sample, picture in zip(samples, track(pictures), strict=True):
                (new / sample.path).write_bytes(picture)
        (new / MANIFEST).write_text(manifest(samples), encoding="utf-8", newline="")
        os.replace(new, out)


def _interrupt(_: int) -> None:
    raise KeyboardInterrupt


def _render_all(
    model: HeadModel, samples: Sequence[RenderedSample], seed: int, workers: int
) -> Generator[bytes, None, None]:
    """-> each sample's picture as JPEG, in order. Persons are rendered by `workers` processes at a time."""
    persons = [list(group) for _, group in itertools.groupby(samples, key=lambda sample: sample.person)]
    spawn = multiprocessing.get_context("spawn")  # OpenCV and Numba may have threads, which do not survive a fork
    stop = spawn.Event()
    pool = ProcessPoolExecutor(min(workers, len(persons)), spawn, _start_worker, (model, stop))
    try:
        with _settings_of_workers():
            pictures = pool.map(functools.partial(_render_person, seed), persons)
        for of_a_person in pictures:
            yield from of_a_person
    except BrokenProcessPool as error:
        raise DataError(
            f"one of {workers} processes was killed before the set was complete; if the memory was full, give fewer "
            "with --workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _settings_of_workers() -> Iterator[None]:
    """Processes that start in the block ignore Ctrl-C, which a terminal sends to all, and do algebra in one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class _Worker:
    """What a process keeps."""

    model: HeadModel
    detector: FaceDetector
    stop: Event
    """Set when no more pictures are wanted."""


_workers: list[_Worker] = []
"""The process's own, if it is one."""


def _start_worker(model: HeadModel, stop: Event) -> None:
    limit_opencv(1)
    _workers.append(_Worker(model, FaceDetector(threads=1), stop))


def _render_person(seed: int, samples: Sequence[RenderedSample]) -> list[bytes]:
    """The samples of one person -> their pictures as JPEG."""
    worker = _workers[0]
    person = draw_person(worker.model, np.random.default_rng([seed, samples[0].person, 1]))
    return [
        encoded(_render_sample(worker, person, sample, seed), ".jpg", JPEG)
        for sample in samples
        if not worker.stop.is_set()
    ]


def _render_sample(worker: _Worker, person: Person, sample: RenderedSample, seed: int) -> Image:
    """-> the first drawing in which the detector finds a face: training cuts the faces that it finds."""
    rng = np.random.default_rng([seed, sample.person, sample.number % PICTURES_OF_A_PERSON, 2])
    for _ in range(MOST_TRIES):
        picture = render(worker.model, person, contract(sample.expression, person.at_rest, rng), rng)
        if worker.detector(picture):
            return picture
    raise DataError(
        f"no face was found in {MOST_TRIES} pictures of {sample.subject} with {sample.expression}; expected the meshes "
        "of a face, check the kit"
    )
