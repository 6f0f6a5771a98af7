"""The protocols: which faces are trained on, under which stratum, and which are tested.

`Conditions` is the paper's Table 1 with capture conditions as strata, or with `rare` the setting of its Table 3.
`LeaveOneOut` leaves an origin out of training. With `rendered` it puts each training face under a random condition, so
that origin, condition or both can be its stratum. A hash of seed and name draws the faces, so that they are the same
for every method.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2

from benchmarks.confounded.condition_sheet import put_under
from benchmarks.confounded.transfer import with_style
from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.runtime.system.files import write_errors
from iern.train.data.conditions import CONDITIONS, STRATA
from iern.train.data.manifest import MANIFEST, FaceData, LabelledFace, load_data
from iern.train.data.protocols import Cell, held_out
from iern.train.network.config import SEVEN_EXPRESSIONS

TABLE_EXPRESSIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprise")
"""Six, as in Table 1; FER2013 has too few faces of disgust."""


@dataclass(frozen=True)
class SourceFace:
    """A labelled face of ROOT, before it is put under a condition."""

    name: str
    """Path below ROOT, with forward slashes."""
    path: Path
    expression: str
    origin: str
    subject: str = ""
    """The person, if known."""


class FaceInStratum(NamedTuple):
    """A face under one stratum: a training sample, or a question (a tested face)."""

    face: SourceFace
    stratum: str
    taken_under: str = ""
    """The condition that the face was really taken under, if that is another one."""
    style: SourceFace | None = None
    """Then, a face taken under the stratum, whose style is transferred."""


@dataclass(frozen=True)
class Conditions:
    """Every expression under all conditions except one, a different one in each fold; a seed is a fold.

    Cells are balanced: all expressions have the same number of faces, half under each of the fold's two conditions. So
    every condition has as many faces as the others, of four expressions in equal shares. Neither a condition nor an
    expression is rare: only their pairing is. With `rare` the held-out condition has faces as well, that share of the
    number that each of the others has (a tenth, in Table 3).
    """

    training_faces: tuple[SourceFace, ...]
    tested_faces: tuple[SourceFace, ...]
    number: int
    """The number of faces to train on."""
    rare: float = 0.0
    expressions: tuple[str, ...] = TABLE_EXPRESSIONS
    strata: tuple[str, ...] = tuple(CONDITIONS)

    def held_out_cells(self, seed: int) -> frozenset[Cell]:
        """The (expression, condition) cells that are out of distribution in a seed's fold."""
        return held_out(self.expressions, self.strata, seed % len(self.strata) + 1)

    def training(self, seed: int) -> list[FaceInStratum]:
        """Each face under one condition. Raises DataError if an expression has too few faces."""
        each = self.number // len(self.expressions)
        held = self.held_out_cells(seed)
        training = []
        for expression in self.expressions:
            faces = [face for face in self.training_faces if face.expression == expression]
            if len(faces) < each:
                raise DataError(
                    f"found {len(faces)} training faces of {expression}, expected {each}: "
                    f"--faces {self.number} takes {each} of each of {len(self.expressions)} expressions; pass fewer"
                )
            seen = [stratum for stratum in self.strata if (expression, stratum) not in held]
            absent = [stratum for stratum in self.strata if stratum not in seen]
            rare = int(each * self.rare / (len(seen) + self.rare))
            strata = absent * rare + [seen[i % len(seen)] for i in range(each - rare)]
            drawn = in_random_order(faces, seed)[:each]
            training += [FaceInStratum(*pair) for pair in zip(drawn, strata, strict=True)]
        return training

    def intervened(self, seed: int) -> list[FaceInStratum]:
        """The faces of `training`, each under every condition."""
        return [FaceInStratum(each.face, stratum) for each in self.training(seed) for stratum in self.strata]

    def transferred(self, seed: int) -> list[FaceInStratum]:
        """The same by transfer.py: the style is that of another face of `training`, taken under the condition."""
        training = self.training(seed)
        under = {name: [each.face for each in training if each.stratum == name] for name in self.strata}

        def in_stratum(face: SourceFace, taken_under: str, stratum: str) -> FaceInStratum:
            if stratum == taken_under:
                return FaceInStratum(face, stratum)
            number = int(_digest(face, f"{seed}/like/{stratum}")[:8], 16)
            return FaceInStratum(face, stratum, taken_under, under[stratum][number % len(under[stratum])])

        return [in_stratum(each.face, each.stratum, stratum) for each in training for stratum in self.strata]

    def questions(self) -> list[FaceInStratum]:
        """All tested faces under the first condition, then all under the second, and so on."""
        return [FaceInStratum(face, stratum) for stratum in self.strata for face in self.tested_faces]


@dataclass(frozen=True)
class LeaveOneOut:
    """Training without one origin, which is then out of distribution.

    The other origins give equally many faces, or all they have. Expressions keep their frequencies.
    """

    training_faces: tuple[SourceFace, ...]
    tested_faces: tuple[SourceFace, ...]
    number: int
    left_out: str
    rendered: bool = False
    """Whether the strata of training faces are equally frequent conditions and `AS_TAKEN`, instead of their origins."""
    expressions: tuple[str, ...] = tuple(sorted(SEVEN_EXPRESSIONS))

    @property
    def strata(self) -> tuple[str, ...]:
        """The origins that are tested."""
        return tuple(sorted({face.origin for face in self.tested_faces}))

    def held_out_cells(self, seed: int) -> frozenset[Cell]:
        """All cells of the origin left out, for every seed."""
        return frozenset((expression, self.left_out) for expression in self.expressions)

    def training(self, seed: int) -> list[FaceInStratum]:
        """Each face under its own origin. Raises DataError if there are too few."""
        origins = sorted({face.origin for face in self.training_faces} - {self.left_out})
        pools = [[face for face in self.training_faces if face.origin == origin] for origin in origins]
        training: list[FaceInStratum] = []
        for i, pool in enumerate(sorted(pools, key=len)):  # larger origins give what small ones lack
            share = (self.number - len(training)) // (len(pools) - i)
            training += [FaceInStratum(face, self._stratum(face, seed)) for face in in_random_order(pool, seed)[:share]]
        if len(training) < self.number:
            raise DataError(
                f"found {len(training)} training faces without {self.left_out}, --faces is {self.number}; pass fewer"
            )
        return training

    def _stratum(self, face: SourceFace, seed: int) -> str:
        if not self.rendered:
            return face.origin
        return STRATA[int(_digest(face, f"{seed}/condition")[:8], 16) % len(STRATA)]

    def questions(self) -> list[FaceInStratum]:
        """Every tested face under its own origin."""
        return [FaceInStratum(face, face.origin) for face in self.tested_faces]


Protocol = Conditions | LeaveOneOut
LEAVE_ONE_OUT = ("origin", "camera")
PROTOCOLS = ("table1", "table3", *LEAVE_ONE_OUT)

CONFOUNDERS: dict[str, Callable[[FaceInStratum], str]] = {
    "stratum": lambda each: each.stratum,
    "origin": lambda each: each.face.origin,
    "both": lambda each: f"{each.face.origin}, {each.stratum}",
}
"""The confounder of a training face: the stratum it is put under, its origin, or both."""


def make_protocol(name: str, root: Path, origin: str, split: str, number: int, rare: float = 0.1) -> Protocol:
    """The protocol `name` of PROTOCOLS on the faces of ROOT, tested on `split`; `rare` is for table3.

    Raises DataError if ROOT lacks faces for it.
    """
    data = load_data(root)
    known = sorted({record.confounder for record in data.records})
    if origin not in known:
        raise DataError(f"{root} has no faces of the origin {origin!r}; found {', '.join(known)}")
    if name in LEAVE_ONE_OUT:
        expressions = tuple(sorted(SEVEN_EXPRESSIONS))
        training, tested = (_faces(data, part, expressions, known) for part in ("train", split))
        if len(known) < 3:
            raise DataError(
                f"{root} has the origins {', '.join(known)}; expected at least 3: one left out, 2 to train on"
            )
        protocol: Protocol = LeaveOneOut(training, tested, number, origin, rendered=name == "camera")
    else:
        training, tested = (_faces(data, part, TABLE_EXPRESSIONS, [origin]) for part in ("train", split))
        protocol = Conditions(training, tested, number, rare if name == "table3" else 0.0)
    if not any(face.origin == origin for face in tested):
        raise DataError(f"{root}: the split {split!r} has no faces of {origin}; pass another --split or --origin")
    return protocol


def write_faces(
    folder: Path, faces: Sequence[FaceInStratum], split: str, size: int, confounder: str = "stratum"
) -> None:
    """Write the faces under their strata as (size, size) PNG, and a manifest. A face without a person is a subject.

    `confounder`, of CONFOUNDERS, is what the manifest holds as a face's confounder.
    """
    folder.mkdir()
    spec = InputSpec(size=size)
    with write_errors(folder), open(folder / MANIFEST, "w", newline="", encoding="utf-8") as file:
        manifest = csv.writer(file)
        manifest.writerow(("path", "expression", "confounder", "split", "subject"))
        for number, each in enumerate(faces):
            face = each.face
            pixels = _picture(face, each.taken_under or each.stratum, spec)
            if each.style is not None:
                pixels = with_style(pixels, _picture(each.style, each.stratum, spec))
            path = folder / f"{number:06d}.png"
            path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
            labels = face.expression, CONFOUNDERS[confounder](each)
            manifest.writerow((path.name, *labels, split, face.subject or face.name))


def _picture(face: SourceFace, stratum: str, spec: InputSpec) -> Image:
    """The face as (S, S, 3) uint8, under the stratum if that is a condition."""
    pixels = resize_face(read_image(face.path), spec)
    return put_under(pixels, stratum, face.name) if stratum in CONDITIONS else pixels


def in_random_order(faces: Sequence[SourceFace], seed: int) -> list[SourceFace]:
    """The faces in a seed's order, which depends on neither the other faces nor the order of the manifest."""
    return sorted(faces, key=lambda face: _digest(face, str(seed)))


def _digest(face: SourceFace, seed: str) -> str:
    """64 random hexadecimal digits of a face and a seed."""
    return hashlib.sha256(f"{seed}/{face.name}".encode()).hexdigest()


def _faces(data: FaceData, split: str, expressions: Sequence[str], origins: Sequence[str]) -> tuple[SourceFace, ...]:
    """The faces of a split in the order of their names."""

    def selected() -> Iterator[SourceFace]:
        for record in data.split(split):
            name = _name(record, data.root)
            expression = data.expressions[record.expression]
            if expression in expressions and record.confounder in origins:
                yield SourceFace(name, record.path, expression, record.confounder, record.subject)

    return tuple(sorted(selected(), key=lambda face: face.name))


def _name(record: LabelledFace, root: Path) -> str:
    return record.path.relative_to(root).as_posix()
