"""Drawn faces, and the data sets made of them."""

import csv
import hashlib
import itertools
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import read_image
from iern.train.cartoons.data_set import STRATA, plan, render, render_all, write
from iern.train.cartoons.faces import draw
from iern.train.cartoons.muscles import EXPRESSIONS, VARIANTS, contract
from iern.train.cartoons.people import BEARDS, HAIR_STYLES, person_of
from iern.train.data.made_set import COLUMNS
from iern.train.data.manifest import load_data
from repository import ROOT

COMMAND = ROOT / "train" / "cartoon.py"

# Action units of the basic expressions after EMFACS (Ekman & Friesen), and their names in the FACS manual.
EMFACS = {
    "anger": {4, 5, 7, 23},
    "disgust": {9, 15},
    "fear": {1, 2, 4, 5, 20, 26},
    "happiness": {6, 12},
    "sadness": {1, 4, 15},
    "surprise": {1, 2, 5, 26},
    "neutral": set(),
}
UNITS = {
    1: "inner_brow_raiser",
    2: "outer_brow_raiser",
    4: "brow_lowerer",
    5: "upper_lid_raiser",
    6: "cheek_raiser",
    7: "lid_tightener",
    9: "nose_wrinkler",
    12: "lip_corner_puller",
    15: "lip_corner_depressor",
    20: "lip_stretcher",
    23: "lip_tightener",
    26: "jaw_drop",
}


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(COMMAND), *map(str, arguments)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, **environment},
    )


def edge_orientations(image):
    """(64, 64, 3) -> (2048,) strength of the edges of 8 directions in 16 x 16 cells."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    strength, direction = np.hypot(dx, dy), (np.arctan2(dy, dx) / np.pi * 8).astype(int) % 8
    cells = [cv2.resize(strength * (direction == k), (16, 16), interpolation=cv2.INTER_AREA) for k in range(8)]
    return np.sqrt(np.stack(cells)).ravel()


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest_rows(folder):
    with open(folder / "manifest.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Faces


def test_the_same_arguments_give_the_same_bytes_in_another_process():
    program = (
        "import hashlib; from iern.train.cartoons.data_set import plan, render_all\n"
        "print(hashlib.sha256(render_all(plan(3, 1, 7), 48).tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, encoding="utf-8", env=os.environ
    )
    assert other.stdout.strip() == hashlib.sha256(render_all(plan(3, 1, 7), 48).tobytes()).hexdigest()


def test_every_expression_person_and_picture_is_different():
    combinations = itertools.product(EXPRESSIONS, range(3), range(3))
    assert len({draw(*which, 32).tobytes() for which in combinations}) == len(EXPRESSIONS) * 9


def test_with_the_same_seeds_two_expressions_differ_in_the_face_alone():
    """Pose, light and background do not depend on the expression: outside the head the pixels are equal."""
    for person in range(5):
        faces = [draw(expression, person, 3).astype(int) for expression in EXPRESSIONS]
        for face in faces[1:]:
            assert np.array_equal(face[:3], faces[0][:3]), "the background above the head"
            assert np.array_equal(face[:, :2], faces[0][:, :2]), "the background beside the head"
            assert np.abs(face - faces[0])[16:56, 12:52].max() > 60, "the face itself"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_contracts_the_muscles_that_emfacs_lists(expression):
    for variant in VARIANTS[expression]:
        idle = [unit for unit in EMFACS[expression] if getattr(variant, UNITS[unit]) < 0.15]
        assert not idle
    if expression == "neutral":
        assert all(getattr(variant, name) == 0 for variant in VARIANTS["neutral"] for name in UNITS.values())


def test_expressions_show_from_weak_to_strong_and_neutral_is_weaker_than_the_weakest_smile():
    smiles = [contract("happiness", np.random.default_rng(i)).lip_corner_puller for i in range(200)]
    rest = [contract("neutral", np.random.default_rng(i)).lip_corner_puller for i in range(200)]
    assert min(smiles) < 0.5 and max(smiles) > 0.9
    assert max(rest) < min(smiles)


def test_people_span_the_skin_tones_and_every_hair_style_and_beard():
    people = [person_of(seed) for seed in range(300)]
    lightness = np.array([np.dot(person.skin, (0.114, 0.587, 0.299)) for person in people])
    assert lightness.min() < 65 and lightness.max() > 225
    assert all(np.mean((lightness > low) & (lightness <= low + 70)) > 0.15 for low in (45, 115, 185))
    assert {person.hair_style for person in people} == set(HAIR_STYLES)
    assert {person.beard for person in people} == set(BEARDS)
    assert 0.15 < np.mean([person.glasses for person in people]) < 0.35


@pytest.mark.parametrize("size", [16, 64, 113])
def test_a_face_has_the_requested_size(size):
    face = draw("fear", 1, 2, size)
    assert face.shape == (size, size, 3) and face.dtype == np.uint8


@pytest.mark.parametrize(("expression", "size", "message"), [("joy", 64, "'joy'"), ("fear", 8, "8 pixels")])
def test_an_unknown_expression_or_size_is_refused(expression, size, message):
    with pytest.raises(DataError, match=message):
        draw(expression, 0, 0, size)


def test_a_linear_classifier_recognises_expressions_of_new_people_above_chance_but_not_perfectly():
    """Edge orientations of the clean faces, a linear discriminant, people apart: chance is 1/7."""
    samples = plan(60, 1, 11, strata=("clean",))
    features = np.stack([edge_orientations(image) for image in render(samples)])
    labels = np.array([sample.expression for sample in samples])
    training = np.array([sample.split == "train" for sample in samples])
    classifier = make_pipeline(PCA(100, random_state=0), LinearDiscriminantAnalysis())
    classifier.fit(features[training], labels[training])
    assert 0.45 < classifier.score(features[~training], labels[~training]) < 0.97


# Sets


def test_every_split_has_every_cell_and_no_person_is_in_two_splits():
    samples = plan(20, 2, 3)
    assert len(samples) == 20 * 2 * len(EXPRESSIONS) * len(STRATA)
    assert len({sample.path for sample in samples}) == len(samples)
    people = {}
    for split in ("train", "valid", "test"):
        mine = [sample for sample in samples if sample.split == split]
        cells = [(sample.expression, sample.confounder) for sample in mine]
        people[split] = {sample.subject for sample in mine}
        assert {cell: cells.count(cell) for cell in itertools.product(EXPRESSIONS, STRATA)} == dict.fromkeys(
            itertools.product(EXPRESSIONS, STRATA), 2 * len(people[split])
        )
    assert [len(people[split]) for split in ("train", "valid", "test")] == [14, 3, 3]
    assert len(set.union(*people.values())) == 20


@pytest.mark.parametrize("seen", [1, 2])
def test_a_confounded_set_tests_out_of_distribution_exactly_the_cells_that_training_never_has(seen):
    samples = plan(20, 1, 0, seen=seen)
    cells = {
        split: {(s.expression, s.confounder) for s in samples if s.split == split}
        for split in ("train", "valid", "test", "ood")
    }
    assert cells["train"] == cells["valid"] == cells["test"]
    assert len(cells["train"]) == seen * len(EXPRESSIONS)
    assert cells["ood"] == set(itertools.product(EXPRESSIONS, STRATA)) - cells["train"]
    people = {split: {s.identity for s in samples if s.split == split} for split in cells}
    assert people["test"] == people["ood"], "the two tests differ in nothing but the pairing"
    assert not people["train"] & people["valid"] and not (people["train"] | people["valid"]) & people["test"]


def test_another_seed_is_other_people():
    assert not {s.identity for s in plan(10, 1, 0)} & {s.identity for s in plan(10, 1, 1)}


def test_a_picture_depends_on_its_own_sample_alone():
    samples = plan(3, 2, 0)
    everything = render_all(samples, 32)
    for index in (0, 1, 17, len(samples) - 1):
        assert np.array_equal(next(iter(render([samples[index]], 32))), everything[index])


def test_the_strata_hold_the_same_drawing():
    samples = [s for s in plan(3, 1, 0) if s.identity == 0 and s.expression == "fear"]
    pictures = dict(zip([s.confounder for s in samples], render(samples), strict=True))
    assert np.array_equal(pictures["clean"], draw("fear", 0, 0))
    for stratum in ("noise", "blur"):
        difference = np.abs(pictures[stratum].astype(int) - pictures["clean"])
        assert 1 < difference.mean() < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identities": 2}, "2 identities"),
        ({"per_cell": 0}, "0 pictures"),
        ({"seed": -1}, "seed -1"),
        ({"expressions": ["anger", "joy"]}, "'joy'"),
        ({"expressions": []}, "no expression"),
        ({"strata": ["fog"]}, "'fog'"),
        ({"strata": ["blur", "blur"]}, "given twice"),
        ({"seen": 3}, "3 strata seen of 3"),
    ],
)
def test_impossible_numbers_and_unknown_names_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        plan(**{"identities": 5, **arguments})


# Files


def test_the_files_are_the_pictures_and_training_reads_them(tmp_path):
    samples = plan(4, 1, 0, seen=1)
    write(tmp_path / "set", samples, 24)
    rows = manifest_rows(tmp_path / "set")
    assert tuple(rows[0]) == COLUMNS
    for row, image in zip(rows, render_all(samples, 24), strict=True):
        assert np.array_equal(read_image(tmp_path / "set" / row["path"]), image)
    data = load_data(tmp_path / "set", EXPRESSIONS)
    assert len(data.records) == len(samples) and set(data.strata) == set(STRATA)
    assert len(data.split("ood")) == sum(sample.split == "ood" for sample in samples)


def test_an_earlier_set_is_replaced_whole_and_the_same_seed_writes_the_same_bytes(tmp_path):
    write(tmp_path / "first", plan(3), 16)
    write(tmp_path / "second", plan(5, seed=2), 16)
    write(tmp_path / "second", plan(3), 16)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work", encoding="utf-8")
    write(tmp_path / "set", plan(3), 16)
    (tmp_path / "set" / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    before = contents(tmp_path)
    for name, message in (("thesis", "no earlier cartoon set"), ("set", r"notes\.txt"), ("file", "is a file")):
        with pytest.raises(DataError, match=message):
            write(tmp_path / name, plan(3), 16)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, earlier):
    if earlier:
        write(tmp_path / "set", plan(3), 16)
    before = contents(tmp_path)

    def until_the_fifth(samples):
        yield from itertools.islice(samples, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", plan(4), 16, track=until_the_fifth)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == earlier


# The command


def test_the_command_writes_a_confounded_set_under_a_name_that_an_ascii_locale_cannot_encode(tmp_path):
    out = tmp_path / "Köpfe, größer"
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run(out, "--identities", 3, "--size", 16, "--confounded", **environment)
    assert result.returncode == 0, result.stderr
    expected = plan(3, 1, 0, seen=1)
    assert [row["path"] for row in manifest_rows(out)] == [sample.path for sample in expected]
    assert f"{len(expected)} faces" in result.stdout and "14 ood" in result.stdout
    made_with = json.loads((out / "cartoon.json").read_text(encoding="utf-8"))
    assert made_with["confounded"] == 1 and made_with["strata"] == list(STRATA)


def test_the_command_writes_a_contact_sheet_alone(tmp_path):
    result = run("--sheet", tmp_path / "sheet.png", "--strata", "clean", "dark")
    assert result.returncode == 0, result.stderr
    page = read_image(tmp_path / "sheet.png")
    assert page.shape[1] > len(EXPRESSIONS) * 64
    top, bottom = np.array_split(page[30:, 70:], 2)
    assert bottom.mean() < 0.6 * top.mean(), "the second band is the dark one"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["set", "--identities", 2], 1, "2 identities"),
        (["set", "--size", 4], 1, "4 pixels"),
        (["set", "--confounded", 3], 1, "3 strata seen"),
        (["set", "--strata", "fog"], 2, "invalid choice: 'fog'"),
        (["--sheet", "sheet.jpg"], 1, "sheet.png"),
        ([], 2, "nothing to do"),
    ],
)
def test_the_command_refuses_in_one_line_and_writes_nothing(tmp_path, arguments, status, message):
    paths = [tmp_path / word if word in ("set", "sheet.jpg") else word for word in arguments]
    result = run(*paths)
    assert result.returncode == status
    assert message in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
