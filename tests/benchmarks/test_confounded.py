"""The claim on faces is tested fairly: held-out cells are never trained on, and only the method differs."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from benchmarks.confounded import __main__ as confounded
from benchmarks.confounded import condition_sheet as conditions
from benchmarks.confounded import protocols
from benchmarks.confounded.methods import COMMON, FACES_PER_BATCH, METHODS, STRATA_OF, method_recipe, trained_parameters
from benchmarks.confounded.report import accuracy, face_scores, held_rows, pair_rows, rows, spread_rows
from benchmarks.confounded.transfer import with_style
from iern.runtime.errors import DataError, IernError
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.methods import training_method
from iern.train.cartoons.data_set import plan, write
from iern.train.cartoons.faces import draw
from iern.train.data.conditions import AS_TAKEN
from iern.train.data.manifest import load_data
from iern.train.data.protocols import confounded as confounded_cells
from iern.train.data.sampler import EpochBatches
from iern.train.network.iern import build

FACES, SPEC = 96, InputSpec(size=32)
SMALL = ["--origin", "clean", "--split", "valid", "--faces", "48", "--epochs", "3"]
EXPRESSIONS = protocols.TABLE_EXPRESSIONS


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """24 drawn people: 16 to train on, under three "origins"."""
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write(folder, plan(24), size=32)
    return folder


@pytest.fixture(params=["table1", "table3"])
def table(request, root) -> protocols.Protocol:
    return protocols.make_protocol(request.param, root, "clean", "valid", FACES)


def cells(training) -> Counter:
    return Counter((each.face.expression, each.stratum) for each in training)


@pytest.mark.parametrize("seed", range(4))
def test_cells_held_out_are_never_in_the_training_files(seed, root, tmp_path):
    protocol = protocols.make_protocol("table1", root, "clean", "valid", FACES)
    protocols.write_faces(tmp_path / "training", protocol.training(seed), "train", 32)
    data = load_data(tmp_path / "training")
    written = {(data.expressions[record.expression], record.confounder) for record in data.records}
    everything = {(expression, stratum) for expression in EXPRESSIONS for stratum in conditions.CONDITIONS}
    assert len(data.records) == FACES
    assert written == everything - protocol.held_out_cells(seed)
    assert len(written) == 12


def test_a_style_is_transferred_from_faces_taken_under_the_condition_and_never_rendered(root, tmp_path):
    protocol = protocols.make_protocol("table1", root, "clean", "valid", FACES)
    seen, training = protocol.training(1), protocol.transferred(1)
    taken = {(each.face, each.stratum) for each in seen}
    assert [(each.face, each.stratum) for each in training] == [(p.face, p.stratum) for p in protocol.intervened(1)]
    for each in training:
        if each.style is None:
            assert (each.face, each.stratum) in taken
        else:
            assert (each.face, each.taken_under) in taken and (each.style, each.stratum) in taken
            assert each.taken_under != each.stratum
    assert training == protocol.transferred(1)
    protocols.write_faces(tmp_path / "training", training[:3], "train", 32)
    pictures = [read_image(record.path) for record in load_data(tmp_path / "training").records]
    for each, picture in zip(training[:3], pictures, strict=True):
        made = conditions.put_under(resize_face(read_image(each.face.path), SPEC), each.stratum, each.face.name)
        assert np.array_equal(picture, made) == (each.style is None)


def test_a_transfer_takes_light_and_colour_from_one_face_and_its_details_from_the_other():
    face, style = draw("happiness", 3, 0, 64), conditions.put_under(draw("anger", 5, 0, 64), "dim", "other")
    assert np.abs(with_style(face, face).astype(int) - face).max() <= 1
    made = with_style(face, style).astype(float)
    # The mean of a colour is its lowest frequency; what is clipped at black moves it a little.
    np.testing.assert_allclose(made.mean(axis=(0, 1)), style.mean(axis=(0, 1)), atol=4)
    details = [pixels - cv2.GaussianBlur(pixels, (0, 0), 3) for pixels in (made, face.astype(float))]
    assert np.corrcoef(details[0].ravel(), details[1].ravel())[0, 1] > 0.8


def test_three_seeds_hold_every_cell_out_once_as_in_table_1(table):
    held = Counter(cell for seed in range(3) for cell in table.held_out_cells(seed))
    assert len(held) == 18 and set(held.values()) == {1}
    everything = {(expression, stratum) for expression in EXPRESSIONS for stratum in conditions.CONDITIONS}
    assert everything - table.held_out_cells(1) == confounded_cells(EXPRESSIONS, tuple(conditions.CONDITIONS), seen=2)


def test_neither_an_expression_nor_a_condition_is_rare_only_their_pairing(root):
    training = protocols.make_protocol("table1", root, "clean", "valid", FACES).training(5)
    assert set(cells(training).values()) == {FACES // 12}
    assert set(Counter(each.stratum for each in training).values()) == {FACES // 3}


def test_table_3_adds_a_tenth_of_a_cell_without_adding_faces(root):
    protocol = protocols.Conditions(*([faces(root, 700)] * 2), number=3600, rare=0.1)
    found = cells(protocol.training(0))
    rare = [found[cell] for cell in protocol.held_out_cells(0)]
    full = [count for cell, count in found.items() if cell not in protocol.held_out_cells(0)]
    assert sum(found.values()) == 3600
    assert np.mean(rare) / np.mean(full) == pytest.approx(0.1, abs=0.003)


def faces(root: Path, each: int) -> tuple[protocols.SourceFace, ...]:
    return tuple(protocols.SourceFace(f"{name}{i}", root, name, "clean") for name in EXPRESSIONS for i in range(each))


def test_every_method_trains_on_the_same_faces_for_as_many_iterations(table):
    once, everywhere = table.training(2), table.intervened(2)
    assert {each.face for each in everywhere} == {each.face for each in once}
    assert set(cells(everywhere).values()) == {FACES // 6}
    assert len(EpochBatches(len(once), FACES_PER_BATCH, 0)) * 3 == len(
        EpochBatches(len(everywhere), FACES_PER_BATCH, 0)
    )
    assert table.training(2) == once != table.training(5)
    shared = {"batch_size", "augment", "epochs", "seed", "schedule"}
    assert not [name for name, changes in METHODS.items() if shared & set(changes)]
    assert not [name for name, changes in METHODS.items() if {"lr", "backbone_lr"} & set(changes.get("algorithm", {}))]


def test_an_origin_left_out_is_tested_and_never_trained_on(root):
    protocol = protocols.make_protocol("origin", root, "blur", "valid", 60)
    found = Counter(each.face.origin for each in protocol.training(0))
    assert found == {"clean": 30, "noise": 30}
    assert {each.stratum for each in protocol.questions()} == {"blur", "clean", "noise"}
    assert {stratum for _, stratum in protocol.held_out_cells(0)} == {"blur"}


def test_strata_are_compared_on_the_same_pictures_of_an_unseen_camera(root, tmp_path):
    protocol = protocols.make_protocol("camera", root, "blur", "valid", 60)
    training = protocol.training(0)
    pictures = {}
    for name in protocols.CONFOUNDERS:
        protocols.write_faces(tmp_path / name, training, "train", 32, name)
        records = load_data(tmp_path / name).records
        pictures[name] = [record.path.read_bytes() for record in records]
        found = [record.confounder for record in records]
        expected = {
            "stratum": [each.stratum for each in training],
            "origin": [each.face.origin for each in training],
            "both": [f"{each.face.origin}, {each.stratum}" for each in training],
        }[name]
        assert found == expected
    assert pictures["stratum"] == pictures["origin"] == pictures["both"]
    assert {each.stratum for each in training} == {AS_TAKEN, *conditions.CONDITIONS}
    plain = protocols.make_protocol("origin", root, "blur", "valid", 60)
    assert {each.face for each in training} == {each.face for each in plain.training(0)}
    assert protocol.questions() == plain.questions() and protocol.held_out_cells(0) == plain.held_out_cells(0)
    assert set(confounded.suitable("camera")) == {"baseline", "prior", "by_origin", "by_condition", "by_both"}


def test_a_larger_origin_gives_what_a_small_one_lacks(root):
    small = faces(root, 3)
    large = tuple(dataclasses.replace(face, origin="noise") for face in faces(root, 20))
    protocol = protocols.LeaveOneOut(small + large, small, number=60, left_out="blur")
    assert Counter(each.face.origin for each in protocol.training(0)) == {"clean": 18, "noise": 42}


@pytest.mark.parametrize("condition", conditions.CONDITIONS)
def test_a_condition_is_the_same_for_a_face_at_every_time(condition):
    face = draw("happiness", 3, 0, 64)
    once = conditions.put_under(face, condition, "a/face.png")
    assert once.shape == face.shape and once.dtype == np.uint8
    np.random.default_rng().normal(size=5)
    assert np.array_equal(conditions.put_under(face, condition, "a/face.png"), once)
    assert not np.array_equal(conditions.put_under(face, condition, "another.png"), once)


def test_a_condition_has_its_colours_and_the_face_is_still_visible():
    for person in range(12):
        face = draw("surprise", person, 0, 64)
        under = {name: conditions.put_under(face, name, str(person)).astype(float) for name in conditions.CONDITIONS}
        blueness = {name: (pixels[..., 0] - pixels[..., 2]).mean() for name, pixels in under.items()}
        # The drawn skin itself is warm: what counts is the order.
        assert blueness["film"] == 0 and blueness["cold"] > blueness["dim"]
        assert under["dim"].mean() < min(under["film"].mean(), under["cold"].mean())
        grey = face.astype(float).mean(axis=2)[14:50, 14:50].ravel()
        for pixels in under.values():
            assert np.corrcoef(pixels.mean(axis=2)[14:50, 14:50].ravel(), grey)[0, 1] > 0.55


def test_the_wide_baseline_has_as_many_parameters_and_learns_by_the_classification_alone():
    strata = tuple(conditions.CONDITIONS)
    recipe = method_recipe("wide", Path(), Path(), EXPRESSIONS, 3, 0)
    wide = build(recipe.model.config(EXPRESSIONS, strata))
    iern = build(method_recipe("iern", Path(), Path(), EXPRESSIONS, 3, 0).model.config(EXPRESSIONS, strata))
    assert trained_parameters(wide, recipe) == pytest.approx(sum(p.numel() for p in iern.parameters()), rel=0.1)
    before = {name: value.clone() for name, value in wide.named_parameters()}
    size = COMMON["model"]["image_size"]
    batch = Batch(torch.randint(0, 255, (4, size, size, 3), dtype=torch.uint8), torch.eye(6)[:4], torch.arange(4) % 3)
    training_method(wide.train(), recipe.algorithm, Fabric(accelerator="cpu", devices=1)).step(batch)
    moved = {name.split(".")[0] for name, value in wide.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"backbone", "emotion_generator", "classifier"}


def content(answers: dict[str, str], held: list[list[str]]) -> dict:
    """Two faces, a happy and a sad one, under three strata: six questions, the face changing fastest."""
    questions = {"expressions": ["happiness", "sadness"], "strata": ["cold", "dim", "film"], "faces": 2}
    runs = {key: {"answers": text, "held": held, "parameters": 1, "probes": {}} for key, text in answers.items()}
    return {"questions": {**questions, "labels": "010101", "stratum": "001122"}, "runs": runs}


def test_a_question_is_out_of_distribution_where_its_cell_was_held_out():
    found = content({"baseline/0": "011011"}, [["happiness", "dim"], ["sadness", "film"]])
    assert held_rows(found, "baseline", 0).tolist() == [False, False, True, False, False, True]
    # happy: right under cold and film, wrong under dim; sad: right under cold and film, wrong under dim.
    assert face_scores(found, "baseline", "o.o.d.", [0]).tolist() == [0, 1]
    assert face_scores(found, "baseline", "i.d.", [0]).tolist() == [0.5, 0.5]


def test_gains_are_paired_by_face_and_by_the_seeds_that_both_have():
    held = [["happiness", "dim"], ["sadness", "film"]]
    answers = {"baseline/0": "011011", "iern/0": "010101", "iern/1": "101010"}
    found = content(answers, held)
    assert accuracy(found, "iern", "o.o.d.").mean == 0.5
    assert accuracy(found, "iern", "o.o.d.", minus="baseline").mean == 0.5
    assert accuracy(found, "iern", "o.o.d.", minus="input") is None
    table = {row[0]: row for row in rows(found)}
    assert table["iern"][1] == "2" and table["iern"][-1] == "" and table["baseline"][5] == ""
    # Under dim only happiness is held out, under film sadness: baseline names it once of twice.
    assert spread_rows(found)[0] == ("baseline", "50.0%", "50.0%")


def test_the_gain_of_a_part_is_reported_over_faces_and_seed_by_seed():
    held = [["happiness", "dim"], ["sadness", "film"]]
    answers = {"mended/0": "010101", "prior/0": "011011", "mended/1": "011011", "prior/1": "011010"}
    ((name, accurate, recalled, seeds),) = pair_rows(content(answers, held))
    assert name == "mended minus prior"
    # Seed 0: happy under dim gained; seed 1: sad under film gained. Each is one of two faces.
    assert accurate.startswith("50.0%") and recalled.startswith("50.0%")
    assert seeds == "+50.0%, +50.0%"


def changed(given: list[str], changes: list[str]) -> list[str]:
    """Pairs of options and values, some of them replaced: a command takes each option once."""
    pairs = dict(zip(given[::2], given[1::2], strict=True)) | dict(zip(changes[::2], changes[1::2], strict=True))
    return [word for pair in pairs.items() for word in pair]


@pytest.mark.slow
def test_a_continued_comparison_equals_one_that_was_never_stopped(root, tmp_path, capsys):
    own = ["--data", str(root), *SMALL, "--seeds", "0"]
    parts, whole = tmp_path / "parts.json", tmp_path / "whole.json"
    assert confounded.main([*own, "--methods", "input", "--out", str(parts)]) == 0
    assert confounded.main([*own, "--methods", "input", "iern", "--out", str(parts)]) == 0
    assert confounded.main([*own, "--methods", "input", "iern", "--out", str(whole)]) == 0
    assert json.loads(parts.read_text(encoding="utf-8")) == json.loads(whole.read_text(encoding="utf-8"))
    runs = json.loads(whole.read_text(encoding="utf-8"))["runs"]
    assert {figures["faces_shown"] for figures in runs.values()} == {3 * 48}
    assert set(runs["iern/0"]["probes"]) == {"base", "emotion", "context"}
    page = whole.with_suffix(".md").read_text(encoding="utf-8")
    assert "Mean recall" in page and "| iern | 1 |" in page
    assert whole.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert confounded.main(changed(own[:-2], ["--epochs", "6", "--out", str(whole)])) == 1
    assert "move it away" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("method", STRATA_OF)
def test_every_choice_of_strata_runs(method, root):
    protocol = protocols.make_protocol("camera", root, "blur", "valid", 48)
    figures = confounded.train_and_assess(protocol, method, 0, epochs=1)
    assert len(figures["answers"]) == len(protocol.questions())
    assert figures["faces_shown"] == 48


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("input", "iern", *STRATA_OF)])
def test_every_method_runs(method, root):
    try:
        method_recipe(method, root, root, EXPRESSIONS, 3, 0)
    except IernError as error:
        pytest.skip(str(error))
    protocol = protocols.make_protocol("table1", root, "clean", "valid", 48)
    figures = confounded.train_and_assess(protocol, method, 0, epochs=3)
    assert len(figures["answers"]) == len(protocol.questions())
    assert figures["faces_shown"] == 3 * 48


@pytest.mark.slow
def test_an_origin_left_out_is_compared_with_the_others(root, tmp_path):
    out = tmp_path / "origin.json"
    options = ["--protocol", "origin", "--origin", "blur", "--seeds", "0", "--methods", "baseline", "--epochs", "1"]
    assert confounded.main(changed(["--data", str(root), *SMALL, "--out", str(out)], options)) == 0
    content = json.loads(out.read_text(encoding="utf-8"))
    answers, questions = content["runs"]["baseline/0"]["answers"], content["questions"]
    right = [answer == label for answer, label in zip(answers, questions["labels"], strict=True)]
    blurred = [questions["strata"][int(digit)] == "blur" for digit in questions["stratum"]]
    expected = sum(r for r, b in zip(right, blurred, strict=True) if b) / sum(blurred)
    assert accuracy(content, "baseline", "o.o.d.").mean == pytest.approx(expected)
    assert "held out there" not in out.with_suffix(".md").read_text(encoding="utf-8")


def test_finished_runs_of_another_recipe_are_refused(root, tmp_path, capsys):
    out = tmp_path / "found.json"
    options = ["--data", str(root), *SMALL, "--methods", "baseline", "--out", str(out), "--seeds", "0"]
    protocol = protocols.make_protocol("table1", root, "clean", "valid", 48)
    settings = {"protocol": "table1", "origin": "clean", "rare": 0.1, "split": "valid", "faces": 48, "epochs": 3}
    content = confounded.continued(out, confounded.configuration(settings, protocol))
    content["runs"]["baseline/0"] = {"recipe": {}}
    out.write_text(json.dumps(content), encoding="utf-8")
    assert confounded.main(options) == 1
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--faces", "50"], "a multiple of 48"),
        (["--epochs", "4"], "a multiple of 3"),
        (["--protocol", "table3", "--rare", "0"], "above 0 and at most 1"),
        (["--seeds", "-1"], "0 or more"),
        (["--origin", "nowhere"], "found blur, clean, noise"),
        (["--faces", "4800"], "pass fewer"),
        (["--protocol", "origin", "--methods", "input"], "cannot be put under another origin"),
        (["--data", "nowhere"], "no such folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes, message, root, tmp_path, capsys):
    out = tmp_path / "out.json"
    given = ["--data", str(root), *SMALL, "--methods", "baseline", "--out", str(out)]
    assert confounded.main(changed(given, changes)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not out.exists()


def test_the_contact_sheet_shows_faces_under_every_condition(root, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert conditions.main(["--data", str(root), "--sheet", str(sheet)]) == 0
    height, width = conditions.read_image(sheet).shape[:2]
    assert (height, width) == (4 * 128, 7 * 3 * 128)
    with pytest.raises(DataError, match="a contact sheet is a PNG"):
        conditions.write_sheet(root, tmp_path / "sheet.txt")
