"""The evaluation command gives the same figures for a checkpoint and its exported file, and those of scikit-learn."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

from doubles.face_folder import EXPRESSIONS, STRATA, write_faces, write_image, write_manifest
from doubles.tiny_network import sequential_logits, tiny_config, tiny_network
from iern.export.convert import convert
from iern.export.parity.gate_faces import GateFaces
from iern.runtime.imaging.preprocess import resize_face
from iern.runtime.intervention import softmax
from iern.runtime.recognizer import ExpressionRecognizer
from iern.train.evaluate import main
from iern.train.network.checkpoint import Checkpoint, save_checkpoint
from repository import ROOT

TRAINING, TESTING = 6, 41
SINGLE = ("accuracy", "mean_recall", "macro_f1", "ece", "coverage", "risk", "auroc_disagreement", "auroc_improbability")
KEYS = {
    "n",
    "units",
    *SINGLE,
    "recall",
    "precision",
    "f1",
    "counts",
    "intervals",
    "threshold",
    "strata",
    "mean_over_sets",
    "confirmed",
    "missed",
    "against",
    "confusion",
    "expressions",
}
TEMPERATURE, THRESHOLD = 1.7, 0.55
PRIOR = (0.2, 0.5, 0.3)
PHOTOS = ROOT / "tests" / "data" / "photos"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"), TRAINING, TESTING)


@pytest.fixture(scope="module")
def network(faces):
    """A random network with its classifier shifted and scaled so that its predictions differ from face to face."""
    model = tiny_network(dataclasses.replace(tiny_config(), expressions=EXPRESSIONS, strata=STRATA))
    linear = model.classifier.linear
    with torch.no_grad():
        logits = sequential_logits(model, pictures(faces, model)).mean(1)
        spread = logits.std(0)
        linear.bias.copy_((linear.bias - logits.mean(0)) / spread)
        linear.weight.copy_(linear.weight / spread[:, None])
    return model


def pictures(faces, model):
    """(n, S, S, 3) uint8: the test split as the network takes it."""
    numbers = range(TRAINING, TRAINING + TESTING)
    return np.stack([resize_face(cv2.imread(str(faces / f"{i}.png")), model.config.input) for i in numbers])


@pytest.fixture(scope="module")
def models(tmp_path_factory, network):
    """Suffix -> the network as a checkpoint, and as an exported file."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint = folder / "ckpt.pt"
    weights = network.state_dict()
    calibrated = {"temperature": TEMPERATURE, "threshold": THRESHOLD, "prior": PRIOR}
    save_checkpoint(Checkpoint(network.config, weights, **calibrated), checkpoint)
    convert(checkpoint, folder / "ckpt.onnx", GateFaces(PHOTOS / "biden_portrait.jpg"))
    return {".pt": checkpoint, ".onnx": folder / "ckpt.onnx"}


@pytest.fixture(scope="module")
def truth(faces, network):
    """Labels, strata, float64 probabilities and disagreements of the test split, by the equations."""
    numbers = range(TRAINING, TRAINING + TESTING)
    logits = sequential_logits(network, pictures(faces, network)).numpy() / TEMPERATURE
    labels = np.array([i % 3 for i in numbers])
    strata = np.array([STRATA[i // 3 % 2] for i in numbers])
    by_stratum = softmax(logits)
    distances = np.abs(by_stratum - by_stratum.mean(1, keepdims=True)).sum(-1) / 2
    return labels, strata, softmax(logits.mean(1)), distances.mean(1)


def figures(model, faces, folder, *more):
    out = folder / "figures.json"
    assert main([str(model), "--data", str(faces), "--json", str(out), *more]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def flat(value) -> list:
    """The leaves of a JSON value, in order."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in (key, *flat(value[key]))]
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, list) else [value]


def refused(capsys, *arguments) -> str:
    """The one line that a failed command prints."""
    assert main([str(argument) for argument in arguments]) == 1
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("error: ") and "\n" not in errors
    return errors


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_the_figures_are_those_of_scikit_learn_for_float64_predictions(form, models, faces, truth, tmp_path):
    labels, strata, probabilities, disagreement = truth
    predicted = probabilities.argmax(1)
    assert len(set(predicted)) > 1, "a network that always predicts the same would show nothing"
    found = figures(models[form], faces, tmp_path)
    assert set(found) == KEYS
    assert found["expressions"] == list(EXPRESSIONS)
    assert found["n"] == TESTING
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["mean_recall"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["missed"] is None
    assert [found["recall"][name] for name in EXPRESSIONS] == pytest.approx(
        recall_score(labels, predicted, average=None)
    )
    assert found["confusion"] == confusion_matrix(labels, predicted).tolist()
    assert set(found["strata"]) == set(STRATA)
    for name, values in found["strata"].items():
        here = strata == name
        assert values["n"] == here.sum()
        assert values["accuracy"] == pytest.approx(accuracy_score(labels[here], predicted[here]))
        assert values["mean_recall"] == pytest.approx(balanced_accuracy_score(labels[here], predicted[here]))
    confidence, right = probabilities.max(1), predicted == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(15)) / TESTING
    assert found["ece"] == pytest.approx(error, abs=1e-4)
    assert found["auroc_disagreement"] == pytest.approx(roc_auc_score(~right, disagreement))
    assert found["auroc_improbability"] == pytest.approx(roc_auc_score(~right, 1 - confidence))
    certain = confidence >= THRESHOLD
    assert found["threshold"] == THRESHOLD and 0 < certain.sum() < TESTING
    assert found["coverage"] == pytest.approx(certain.mean())
    assert found["risk"] == pytest.approx(1 - right[certain].mean())


def test_a_checkpoint_and_its_exported_file_have_the_same_figures_and_intervals(models, faces, tmp_path):
    first, second = (figures(models[form], faces, tmp_path) for form in (".pt", ".onnx"))
    assert figures(models[".pt"], faces, tmp_path) == first, "the same each time"
    for one, other in zip(flat(first), flat(second), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert first["units"] == TESTING
    assert all(first["intervals"][name][0] < first["intervals"][name][1] for name in SINGLE)


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_another_prior_multiplies_the_probabilities_by_its_rates_over_the_models(form, models, faces, truth, tmp_path):
    labels, _, probabilities, _ = truth
    rates = np.array([0.7, 0.3 * PRIOR[1] / (PRIOR[1] + PRIOR[2]), 0.3 * PRIOR[2] / (PRIOR[1] + PRIOR[2])])
    expected = (probabilities * rates / PRIOR).argmax(axis=1)
    found = figures(models[form], faces, tmp_path, "--prior", f"{EXPRESSIONS[0]}=0.7")
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, expected), 1)
    assert found["confusion"] == confusion.tolist()
    assert found["confusion"] != figures(models[form], faces, tmp_path)["confusion"]


def test_the_faces_of_one_subject_are_drawn_together(models, tmp_path):
    rows = []
    for i in range(12):
        write_image(tmp_path / f"{i}.png", i)
        subject = f"person {i // 4}" if i < 8 else ""
        rows.append(
            {
                "path": f"{i}.png",
                "expression": EXPRESSIONS[i % 3],
                "confounder": "web",
                "split": "test",
                "subject": subject,
            }
        )
    assert figures(models[".onnx"], write_manifest(tmp_path, rows), tmp_path)["units"] == 2 + 4


def test_the_tables_show_rates_with_intervals_and_counts_if_faces_are_few(models, faces, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main([str(models[".onnx"]), "--data", str(faces)]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"accuracy │ +(\d+\.\d) \[(\d+), (\d+)\]", printed)
    assert float(found[2]) < float(found[1]) < float(found[3])
    assert re.search(r"recall, happy │ +\d+/1\d │", printed), "14 faces are too few for a rate"
    assert f"uncertain below {THRESHOLD:.3f}" in printed
    assert "macro F1" in printed and "mean over sets" in printed


def test_faces_whose_label_most_voters_confirm_have_a_column_of_their_own(models, tmp_path, capsys):
    rows = []
    for i in range(12):
        write_image(tmp_path / f"{i}.png", i)
        row = {"path": f"{i}.png", "expression": EXPRESSIONS[i % 3], "confounder": "web", "split": "test"}
        rows.append({**dict.fromkeys(EXPRESSIONS, 0), **row, EXPRESSIONS[i % 3]: 6 if i < 5 else 4, "unknown": 4})
    found = figures(models[".onnx"], write_manifest(tmp_path, rows), tmp_path)
    assert (found["n"], found["confirmed"]["n"]) == (12, 5)
    rows = [{**row, "split": "test" if i < 5 else "train"} for i, row in enumerate(rows)]
    alone = figures(models[".onnx"], write_manifest(tmp_path, rows), tmp_path)
    assert {name: found["confirmed"][name] for name in SINGLE} == {name: alone[name] for name in SINGLE}
    assert "confirmed" in capsys.readouterr().out


def test_other_splits_are_other_faces(models, faces, tmp_path):
    assert figures(models[".onnx"], faces, tmp_path, "--split", "train")["n"] == TRAINING
    assert figures(models[".onnx"], faces, tmp_path, "--split", "all")["n"] == TRAINING + TESTING


def test_an_expression_without_a_face_has_no_recall_and_lowers_no_mean(models, tmp_path):
    rows = [{"path": f"{i}.png", "expression": "sad", "confounder": "web", "split": "test"} for i in range(3)]
    for i in range(3):
        write_image(tmp_path / f"{i}.png", i)
    found = figures(models[".onnx"], write_manifest(tmp_path, rows), tmp_path)
    assert found["recall"]["happy"] is None and found["recall"]["neutral"] is None
    assert found["mean_recall"] == found["recall"]["sad"] == found["accuracy"]


@pytest.fixture(scope="module")
def pictures_of_people(tmp_path_factory):
    """Whole pictures with faces in two strata; one without a face in `web`, and one alone in `fog`."""
    root = tmp_path_factory.mktemp("pictures")
    photos = [cv2.imread(str(path)) for path in sorted(PHOTOS.glob("*.jpg"))]
    pictures = [*photos, *(np.ascontiguousarray(photo[:, ::-1]) for photo in photos), small_crop(), two_sizes()]
    rows = []
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(root / f"{i}.png"), picture)
        row = {"path": f"{i}.png", "expression": EXPRESSIONS[i % 3], "confounder": STRATA[i % 2], "split": "test"}
        rows.append(row)
    for path, stratum in (("web/nobody.png", "web"), ("fog/nobody.png", "fog")):
        write_image(root / path, 0)
        rows.append({"path": path, "expression": "happy", "confounder": stratum, "split": "test"})
    return write_manifest(root, rows)


def small_crop():
    """(48, 48, 3): a cropped face, as in FER2013."""
    portrait = cv2.imread(str(PHOTOS / "obama_portrait.jpg"))
    return cv2.resize(portrait[100:460, 220:580], (48, 48), interpolation=cv2.INTER_AREA)


def two_sizes():
    """A large face, and beside it a smaller one in which the detector trusts more."""
    large, small = (cv2.imread(str(PHOTOS / f"{name}_portrait.jpg")) for name in ("biden", "obama"))
    small = cv2.resize(small, (320, 400), interpolation=cv2.INTER_AREA)
    return np.hstack([large, cv2.copyMakeBorder(small, 0, 600, 0, 0, cv2.BORDER_CONSTANT)])


def area(face):
    return face.detection.width * face.detection.height


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_with_detect_the_figures_are_those_of_the_library_for_the_largest_faces(
    form, models, pictures_of_people, tmp_path
):
    found = figures(models[form], pictures_of_people, tmp_path, "--detect")
    with ExpressionRecognizer(models[".onnx"]) as recognizer:
        faces = [recognizer(cv2.imread(str(pictures_of_people / f"{i}.png"))) for i in range(10)]
    assert faces[-1][0] is not max(faces[-1], key=area), "the largest face has to differ from the best one"
    largest = [max(each, key=area) for each in faces]
    labels = [EXPRESSIONS[i % 3] for i in range(10)]
    predicted = [face.expression for face in largest]
    right = np.array(labels) == predicted
    assert set(found) == KEYS and found["n"] == 10
    assert found["confusion"] == confusion_matrix(labels, predicted, labels=EXPRESSIONS).tolist()
    assert found["coverage"] == np.mean([not face.uncertain for face in largest])
    assert found["auroc_disagreement"] == pytest.approx(roc_auc_score(~right, [face.disagreement for face in largest]))
    assert found["auroc_improbability"] == pytest.approx(roc_auc_score(~right, [-face.probability for face in largest]))


def test_pictures_without_a_face_are_listed_and_count_as_wrong_in_a_figure_of_their_own(
    models, pictures_of_people, tmp_path, capsys
):
    found = figures(models[".onnx"], pictures_of_people, tmp_path, "--detect")
    missed, right = found["missed"], np.trace(found["confusion"])
    assert (missed["n"], missed["pictures"]) == (2, 12)
    assert missed["paths"] == ["web/nobody.png", "fog/nobody.png"]
    assert found["accuracy"] == pytest.approx(right / 10)
    assert missed["accuracy_of_all"] == pytest.approx(right / 12)
    low, high = missed["intervals"]["accuracy_of_all"]
    assert low < missed["accuracy_of_all"] < high
    by_stratum = {name: (part["n"], part["pictures"]) for name, part in missed["strata"].items()}
    assert by_stratum == {"film": (0, 5), "web": (1, 6), "fog": (1, 1)}
    assert missed["strata"]["fog"]["accuracy_of_all"] == 0
    assert missed["strata"]["film"]["accuracy_of_all"] == found["strata"]["film"]["accuracy"]
    assert set(found["strata"]) == {"film", "web"}
    printed = capsys.readouterr().out
    assert "no face found in 2 of 12 pictures" in printed and "fog/nobody.png" in printed


def test_pictures_without_any_face_are_refused(models, tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 0, 3)
    error = refused(capsys, models[".onnx"], "--data", root, "--detect", "--json", tmp_path / "figures.json")
    assert "3 pictures" in error and "0.png" in error and "--detect" in error
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_figure_is_drawn_in_the_named_format(suffix, models, faces, tmp_path):
    picture = tmp_path / f"confusion.{suffix}"
    figures(models[".onnx"], faces, tmp_path, "--figure", str(picture))
    assert picture.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    if suffix == "png":
        assert min(cv2.imread(str(picture)).shape[:2]) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["figures.json", picture.name])


def test_the_figure_for_a_paper_is_the_same_each_time_and_has_real_text_and_both_models_without_a_title(
    models, faces, tmp_path
):
    names = [tmp_path / f"{name}.svg" for name in ("one", "other")]
    for picture in names:
        figures(models[".onnx"], faces, tmp_path, "--figure", str(picture), "--against", str(models[".pt"]))
    text = names[0].read_text(encoding="utf-8")
    assert names[1].read_text(encoding="utf-8") == text
    for shown in (*EXPRESSIONS, "mean recall", "accuracy, web", "ckpt.onnx", "ckpt.pt"):
        assert f">{shown}</text>" in text
    printed = tmp_path / "paper.pdf"
    figures(models[".onnx"], faces, tmp_path, "--figure", str(printed))
    content = printed.read_bytes()
    assert b"/Type3" not in content and b"/CreationDate" not in content
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1])
    assert width == pytest.approx(7 * 72), "the width of a page of two columns"


def another(network, tmp_path, order=EXPRESSIONS, names=EXPRESSIONS):
    """A checkpoint of the same network with a worse classifier; its outputs in another order, under other names."""
    columns = [EXPRESSIONS.index(name) for name in order]
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights["classifier.linear.bias"][0] += 1
    for name in ("classifier.linear.weight", "classifier.linear.bias"):
        weights[name] = weights[name][columns]
    path = tmp_path / "other.pt"
    config = dataclasses.replace(network.config, expressions=tuple(names[i] for i in columns))
    save_checkpoint(Checkpoint(config, weights, temperature=TEMPERATURE), path)
    return path


def test_two_models_are_compared_on_the_same_faces_whatever_the_order_of_their_outputs(
    models, faces, network, truth, tmp_path, capsys
):
    labels, _, probabilities, _ = truth
    other = another(network, tmp_path, order=("sad", "happy", "neutral"))
    alone = figures(models[".onnx"], faces, tmp_path)
    theirs = figures(other, faces, tmp_path)
    capsys.readouterr()
    found = figures(models[".onnx"], faces, tmp_path, "--against", str(other))
    assert {**found, "against": None} == alone
    paired = found["against"]
    assert paired["model"] == str(other)
    for name in ("accuracy", "mean_recall", "macro_f1", "recall", "f1", "counts"):
        assert flat(paired["figures"][name]) == pytest.approx(flat(theirs[name]))
    logits = np.log(probabilities) + np.array([1 / TEMPERATURE, 0, 0])
    right = np.array([probabilities.argmax(1) == labels, logits.argmax(1) == labels])
    first, second = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    assert (paired["first_alone_right"], paired["second_alone_right"]) == (first, second)
    assert first + second > 0, "two models that never differ would show nothing"
    assert paired["mcnemar_p"] == pytest.approx(binomtest(int(first), int(first + second)).pvalue)
    assert paired["difference"]["accuracy"] == pytest.approx(right[0].mean() - right[1].mean())
    printed = capsys.readouterr().out
    assert f"right alone: this {first}, other {second} of {TESTING} faces" in " ".join(printed.split())


def test_models_of_other_expressions_are_not_compared(models, faces, network, tmp_path, capsys):
    other = another(network, tmp_path, names=("happy", "bored", "sad"))
    error = refused(capsys, models[".onnx"], "--against", other, "--data", faces)
    assert "bored" in error and "neutral" in error and str(other) in error


def test_a_figure_of_an_unknown_format_is_refused_before_anything_is_measured(models, faces, tmp_path, capsys):
    out = tmp_path / "figures.json"
    error = refused(capsys, models[".onnx"], "--data", faces, "--json", out, "--figure", tmp_path / "confusion.docx")
    assert "confusion.docx" in error and ".png" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["absent.pt", "absent.onnx"])
def test_a_missing_model_is_named(name, faces, tmp_path, capsys):
    assert name in refused(capsys, tmp_path / name, "--data", faces)


@pytest.mark.parametrize("name", ["text.pt", "text.onnx", "empty.pt", "empty.onnx"])
def test_a_file_that_is_no_model_is_named(name, faces, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"no model" if name.startswith("text") else b"")
    assert name in refused(capsys, tmp_path / name, "--data", faces)


def test_missing_data_are_named(models, tmp_path, capsys):
    assert "nowhere" in refused(capsys, models[".onnx"], "--data", tmp_path / "nowhere")


def test_a_split_without_a_face_is_refused_with_a_list_of_the_others(models, faces, capsys):
    error = refused(capsys, models[".onnx"], "--data", faces, "--split", "validation")
    assert "validation" in error and "train" in error and "test" in error


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_a_corrupt_picture_is_named_and_no_figures_are_written(form, models, tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 2, 5)
    (root / "3.png").write_bytes(b"no picture")
    assert "3.png" in refused(capsys, models[form], "--data", root, "--json", tmp_path / "figures.json")
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_labels_that_the_model_does_not_know_are_refused(models, tmp_path, capsys):
    write_image(tmp_path / "a.png", 0)
    rows = [{"path": "a.png", "expression": "bored", "confounder": "web", "split": "test"}]
    assert "bored" in refused(capsys, models[".pt"], "--data", write_manifest(tmp_path, rows))


def test_the_command_runs_from_any_folder(models, faces, tmp_path):
    command = [sys.executable, ROOT / "train" / "evaluate.py", models[".onnx"], "--data", faces, "--json", "out.json"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, env={**os.environ, "COLUMNS": "90"}
    )
    assert done.returncode == 0, done.stderr
    assert f"n {TESTING}" in done.stdout and "wrote out.json" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["n"] == TESTING
