"""Which face is trained on under which stratum, and which are asked: the protocols of confounded.py.

`Conditions` is the paper's Table 1 with capture conditions for strata, or with `rare` the setting of its Table 3;
`LeaveOneOut` leaves an origin out of training, and with `rendered` puts each training face under a drawn condition, so
that origin, condition or both can be its stratum. All draw the faces by a hash of seed and name, so that they are the
same for every method.
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
from benchmarks.confounded.transfer import transferred
from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.train.data.conditions import CONDITIONS, STRATA
from iern.train.data.manifest import MANIFEST, FaceData, LabelledFace, load_data
from iern.train.data.protocols import Cell, held_out
from iern.train.network.config import SEVEN_EXPRESSIONS

TABLE_EXPRESSIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprise")
"""Six, as in Table 1; of disgust FER2013 has too few faces."""


@dataclass(frozen=True)
class Face:
    """One labelled face of ROOT."""

    name: str
    """Path below ROOT, with forward slashes."""
    path: Path
    expression: str
    origin: str
    subject: str = ""
    """Whose face it is, where that is known."""


class Placed(NamedTuple):
    """A face under one stratum: a training sample, or a question."""

    face: Face
    stratum: str
    taken: str = ""
    """The condition that it was really taken under, where that is another."""
    like: Face | None = None
    """A face taken under the stratum, from which its look is transferred then."""


@dataclass(frozen=True)
class Conditions:
    """Every expression under all conditions but one, which fold by fold is another; folds follow the seeds.

    Cells are balanced: all expressions have the same number of faces, halved over the two conditions of the fold. So
    every condition has as many faces as the others, of four expressions in equal shares, and neither a condition nor
    an expression is rare: only their pairing is. With `rare` the held-out condition has faces as well, that share of
    what each of the others has (a tenth, in Table 3).
    """

    training_faces: tuple[Face, ...]
    tested_faces: tuple[Face, ...]
    number: int
    """Faces to train on."""
    rare: float = 0.0
    expressions: tuple[str, ...] = TABLE_EXPRESSIONS
    strata: tuple[str, ...] = tuple(CONDITIONS)

    def held(self, seed: int) -> frozenset[Cell]:
        """The (expression, condition) cells that are out of distribution in a seed's fold."""
        return held_out(self.expressions, self.strata, seed % len(self.strata) + 1)

    def training(self, seed: int) -> list[Placed]:
        """Each face under one condition. Raises DataError where an expression has too few faces."""
        each = self.number // len(self.expressions)
        held = self.held(seed)
        placed = []
        for expression in self.expressions:
            own = [face for face in self.training_faces if face.expression == expression]
            if len(own) < each:
                raise DataError(
                    f"found {len(own)} training faces of {expression}, expected {each}: "
                    f"--faces {self.number} is {each} of each of {len(self.expressions)} expressions; give fewer"
                )
            seen = [stratum for stratum in self.strata if (expression, stratum) not in held]
            absent = [stratum for stratum in self.strata if stratum not in seen]
            rare = int(each * self.rare / (len(seen) + self.rare))
            places = absent * rare + [seen[i % len(seen)] for i in range(each - rare)]
            placed += [Placed(*pair) for pair in zip(in_drawn_order(own, seed)[:each], places, strict=True)]
        return placed

    def intervened(self, seed: int) -> list[Placed]:
        """The faces of `training`, each under every condition."""
        return [Placed(each.face, stratum) for each in self.training(seed) for stratum in self.strata]

    def transferred(self, seed: int) -> list[Placed]:
        """The same by transfer.py, each time from another face of `training` that was taken under the condition."""
        training = self.training(seed)
        under = {name: [each.face for each in training if each.stratum == name] for name in self.strata}

        def placed(face: Face, taken: str, stratum: str) -> Placed:
            if stratum == taken:
                return Placed(face, stratum)
            drawn = int(_drawn(face, f"{seed}/like/{stratum}")[:8], 16)
            return Placed(face, stratum, taken, under[stratum][drawn % len(under[stratum])])

        return [placed(each.face, each.stratum, stratum) for each in training for stratum in self.strata]

    def questions(self) -> list[Placed]:
        """All tested faces under the first condition, then all under the second, and so on."""
        return [Placed(face, stratum) for stratum in self.strata for face in self.tested_faces]


@dataclass(frozen=True)
class LeaveOneOut:
    """Training without an origin, which is out of distribution.

    The other origins give as many faces as each other, or all they have; expressions are as frequent as they come.
    """

    training_faces: tuple[Face, ...]
    tested_faces: tuple[Face, ...]
    number: int
    left_out: str
    rendered: bool = False
    """Whether training faces stand under conditions, each as often, and `AS_TAKEN`, instead of under their origins."""
    expressions: tuple[str, ...] = tuple(sorted(SEVEN_EXPRESSIONS))

    @property
    def strata(self) -> tuple[str, ...]:
        """The origins that are asked about."""
        return tuple(sorted({face.origin for face in self.tested_faces}))

    def held(self, seed: int) -> frozenset[Cell]:
        """All cells of the origin left out, whatever the seed."""
        return frozenset((expression, self.left_out) for expression in self.expressions)

    def training(self, seed: int) -> list[Placed]:
        """Each face under its own origin. Raises DataError where there are too few."""
        origins = sorted({face.origin for face in self.training_faces} - {self.left_out})
        pools = [[face for face in self.training_faces if face.origin == origin] for origin in origins]
        placed: list[Placed] = []
        for i, pool in enumerate(sorted(pools, key=len)):  # what a small one lacks, the larger ones give
            share = (self.number - len(placed)) // (len(pools) - i)
            placed += [Placed(face, self._place(face, seed)) for face in in_drawn_order(pool, seed)[:share]]
        if len(placed) < self.number:
            raise DataError(f"found {len(placed)} training faces without {self.left_out}, --faces is {self.number}")
        return placed

    def _place(self, face: Face, seed: int) -> str:
        if not self.rendered:
            return face.origin
        return STRATA[int(_drawn(face, f"{seed}/condition")[:8], 16) % len(STRATA)]

    def questions(self) -> list[Placed]:
        """Every tested face under its own origin."""
        return [Placed(face, face.origin) for face in self.tested_faces]


Protocol = Conditions | LeaveOneOut
LEAVE_ONE_OUT = ("origin", "camera")
PROTOCOLS = ("table1", "table3", *LEAVE_ONE_OUT)

CONFOUNDERS: dict[str, Callable[[Placed], str]] = {
    "place": lambda placed: placed.stratum,
    "origin": lambda placed: placed.face.origin,
    "both": lambda placed: f"{placed.face.origin}, {placed.stratum}",
}
"""What a training face's confounder is: where it is placed, where it comes from, or the pair."""


def make_protocol(name: str, root: Path, origin: str, split: str, number: int, rare: float = 0.1) -> Protocol:
    """The protocol `name` of PROTOCOLS over the faces of ROOT, tested on `split`; `rare` is for table3.

    Raises DataError where ROOT lacks faces for it.
    """
    data = load_data(root)
    known = sorted({record.confounder for record in data.records})
    if origin not in known:
        raise DataError(f"{root}: no faces of the origin {origin!r}; found {', '.join(known)}")
    if name in LEAVE_ONE_OUT:
        expressions = tuple(sorted(SEVEN_EXPRESSIONS))
        training, tested = (_faces(data, part, expressions, known) for part in ("train", split))
        if len(known) < 3:
            raise DataError(f"{root}: found the origins {', '.join(known)}; without one a method needs 2 to adjust for")
        protocol: Protocol = LeaveOneOut(training, tested, number, origin, rendered=name == "camera")
    else:
        training, tested = (_faces(data, part, TABLE_EXPRESSIONS, [origin]) for part in ("train", split))
        protocol = Conditions(training, tested, number, rare if name == "table3" else 0.0)
    if not any(face.origin == origin for face in tested):
        raise DataError(f"{root}: the split {split!r} has no faces of {origin}; give another --split or --origin")
    return protocol


def write_faces(folder: Path, placed: Sequence[Placed], split: str, size: int, strata: str = "place") -> None:
    """The faces where they are placed, (size, size) PNG, and a manifest; of an unknown person each face is a subject.

    `strata`, of CONFOUNDERS, says what the manifest calls a face's confounder.
    """
    folder.mkdir()
    spec = InputSpec(size=size)
    with open(folder / MANIFEST, "w", newline="", encoding="utf-8") as file:
        manifest = csv.writer(file)
        manifest.writerow(("path", "expression", "confounder", "split", "subject"))
        for number, each in enumerate(placed):
            face = each.face
            pixels = _picture(face, each.taken or each.stratum, spec)
            if each.like is not None:
                pixels = transferred(pixels, _picture(each.like, each.stratum, spec))
            path = folder / f"{number:06d}.png"
            path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
            manifest.writerow((path.name, face.expression, CONFOUNDERS[strata](each), split, face.subject or face.name))


def _picture(face: Face, stratum: str, spec: InputSpec) -> Image:
    """(S, S, 3) uint8, under the stratum where that is a condition."""
    pixels = resize_face(read_image(face.path), spec)
    return put_under(pixels, stratum, face.name) if stratum in CONDITIONS else pixels


def in_drawn_order(faces: Sequence[Face], seed: int) -> list[Face]:
    """A seed's order, which does not depend on the other faces nor on the order of the manifest."""
    return sorted(faces, key=lambda face: _drawn(face, str(seed)))


def _drawn(face: Face, seed: str) -> str:
    """64 hexadecimal digits that a seed draws for a face."""
    return hashlib.sha256(f"{seed}/{face.name}".encode()).hexdigest()


def _faces(data: FaceData, split: str, expressions: Sequence[str], origins: Sequence[str]) -> tuple[Face, ...]:
    """The faces of a split in the order of their names."""

    def chosen() -> Iterator[Face]:
        for record in data.split(split):
            name = _name(record, data.root)
            expression = data.expressions[record.expression]
            if expression in expressions and record.confounder in origins:
                yield Face(name, record.path, expression, record.confounder, record.subject)

    return tuple(sorted(chosen(), key=lambda face: face.name))


def _name(record: LabelledFace, root: Path) -> str:
    return record.path.relative_to(root).as_posix()
