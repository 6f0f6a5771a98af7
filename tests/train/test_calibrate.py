"""What the calibration command writes, compared with float64 equations and with the other commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from doubles.face_folder import EXPRESSIONS, STRATA, write_image, write_manifest
from doubles.tiny_network import sequential_logits, tiny_config, tiny_network
from iern.export.convert import ExportOptions, convert
from iern.export.parity.gate_faces import GateFaces
from iern.runtime.backends.onnx import open_session
from iern.runtime.faces.face import faces_from
from iern.runtime.imaging.preprocess import resize_face
from iern.train import evaluate
from iern.train.calibrate import main, validation_faces
from iern.train.data.augment import augmentation
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import cut_validation, load_data
from iern.train.evaluation.calibration import fit_temperature
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from iern.train.network.iern import Baseline
from repository import ROOT

COUNT = 160


def averaged(stratum_logits: np.ndarray, average: str) -> np.ndarray:
    """(n, N, E) logits -> (n, E) probabilities, by Eq. 9 or Eq. 2."""
    logits = stratum_logits if average == "probabilities" else stratum_logits.mean(1, keepdims=True)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).mean(1)


@dataclasses.dataclass
class Case:
    """A network whose probabilities are too high, and faces whose labels are drawn from half its logits."""

    root: Path
    model: Baseline
    stratum_logits: np.ndarray
    labels: np.ndarray

    @property
    def risk(self):
        """A target for which about a fifth of the faces must be uncertain."""
        probabilities = averaged(self.stratum_logits / 2, self.model.config.answer)
        likeliest = np.argsort(-probabilities.max(1))[: COUNT * 4 // 5]
        return float(np.mean(probabilities.argmax(1)[likeliest] != self.labels[likeliest])) + 0.01

    def save(self, path, **changes):
        checkpoint = Checkpoint(self.model.config, self.model.state_dict(), metrics={"valid": {"n": COUNT}})
        save_checkpoint(dataclasses.replace(checkpoint, **changes), path)
        return path


def make_case(root, average, mirrored=False) -> Case:
    own = {"expressions": EXPRESSIONS, "strata": STRATA, "answer": average, "mirrored": mirrored}
    model = tiny_network(dataclasses.replace(tiny_config(), **own))
    for i in range(COUNT):
        write_image(root / f"{i}.png", i)
    faces = np.stack([resize_face(cv2.imread(str(root / f"{i}.png")), model.config.input) for i in range(COUNT)])
    linear = model.classifier.linear
    with torch.no_grad():  # strata close together, and logits scaled so that they differ from face to face
        model.confounders.mul_(0.01)
        logits = sequential_logits(model, faces).mean(1)
        linear.bias.copy_(4 * (linear.bias - logits.mean(0)) / logits.std(0))
        linear.weight.copy_(4 * linear.weight / logits.std(0)[:, None])
    stratum_logits = sequential_logits(model, faces).numpy()
    cumulated = averaged(stratum_logits / 2, average).cumsum(axis=1)
    labels = (np.random.default_rng(0).random((COUNT, 1)) > cumulated).sum(axis=1).clip(max=2)
    rows = [
        {
            "path": f"{i}.png",
            "expression": EXPRESSIONS[labels[i]],
            "confounder": STRATA[i % 2],
            "split": "valid",
        }
        for i in range(COUNT)
    ]
    write_manifest(root, rows)
    return Case(root, model, stratum_logits, labels)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("faces"), "probabilities")


def calibrated(path, case, *more):
    assert main([str(path), "--data", str(case.root), "--risk", str(case.risk), *more]) == 0
    return load_checkpoint(path)


def refused(capsys, *arguments) -> str:
    """The one line that a failed command prints."""
    assert main([str(argument) for argument in arguments]) == 1
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("error: ") and "\n" not in errors
    return errors


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_temperature_and_threshold_are_those_of_float64_probabilities(average, tmp_path):
    case = make_case(tmp_path / "faces", average)
    found = calibrated(case.save(tmp_path / "ckpt.pt"), case)

    def loss(temperature):
        return float(log_loss(case.labels, averaged(case.stratum_logits / temperature, average), labels=range(3)))

    grid = np.geomspace(0.2, 10, 2000)
    assert found.temperature == pytest.approx(grid[np.argmin([loss(each) for each in grid])], rel=0.01)
    assert 1.3 < found.temperature < 3.5, "160 labels drawn at 2"
    figures = found.metrics["calibration"]
    assert (figures["nll_before"], figures["nll_after"]) == pytest.approx(
        (loss(1.0), loss(found.temperature)), rel=1e-4
    )
    assert figures["nll_after"] < figures["nll_before"] and figures["ece_after"] < figures["ece_before"]
    probabilities = averaged(case.stratum_logits / found.temperature, average)
    certain = probabilities.max(1) >= found.threshold
    wrong = probabilities.argmax(1) != case.labels
    assert 0 < found.threshold < 1 and 100 <= certain.sum() < COUNT
    assert wrong[certain].mean() <= case.risk < wrong.mean()
    assert (figures["coverage"], figures["risk"]) == pytest.approx((certain.mean(), wrong[certain].mean()))
    assert found.prior == pytest.approx(np.bincount(case.labels, minlength=3) / COUNT)
    for name in ("ece_before", "ece_after", "nll_before", "nll_after", "coverage", "risk"):
        low, high = figures["intervals"][name]
        assert low < high


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_an_adjustment_divides_the_probabilities_by_the_prior_and_a_second_calibration_starts_again(average, tmp_path):
    case = make_case(tmp_path / "faces", average)
    path = case.save(tmp_path / "ckpt.pt")
    own = case.model.classifier.linear.bias.detach().clone()
    prior = np.bincount(case.labels, minlength=3) / COUNT
    for tau in (0.5, 1.0):
        found = calibrated(path, case, "--logit-adjustment", str(tau))
        expected = own.numpy() - tau * np.log(prior)
        np.testing.assert_allclose(found.weights["classifier.linear.bias"].numpy(), expected, rtol=1e-6)
        figures = found.metrics["calibration"]
        at = averaged(case.stratum_logits - tau * np.log(prior), average)
        reported = {row["logit_adjustment"]: row for row in figures["adjustments"]}[tau]
        assert reported["accuracy"] == pytest.approx(np.mean(at.argmax(1) == case.labels))
        recalls = [np.mean(at.argmax(1)[case.labels == label] == label) for label in range(3)]
        assert reported["mean_recall"] == pytest.approx(np.mean(recalls))
        # The network of the checkpoint has these probabilities now, and so has every file exported from it.
        probabilities = averaged((case.stratum_logits - tau * np.log(prior)) / found.temperature, average)
        assert figures["nll_after"] == pytest.approx(log_loss(case.labels, probabilities, labels=range(3)), rel=1e-4)
        faces = np.stack([resize_face(cv2.imread(str(case.root / f"{i}.png")), found.config.input) for i in range(4)])
        np.testing.assert_allclose(
            sequential_logits(found.model(), faces), case.stratum_logits[:4] - tau * np.log(prior), atol=1e-4
        )
    again = calibrated(path, case)
    assert torch.equal(again.weights["classifier.linear.bias"], own)


@pytest.mark.parametrize(("average", "tau"), [("logits", 0.375), ("probabilities", 1.0)])
def test_the_recorded_prior_leads_back_to_the_network_without_the_adjustment(average, tau, tmp_path):
    """An export for the rates of the calibration faces undoes the adjustment, whatever it was."""
    case = make_case(tmp_path / "faces", average)
    path = case.save(tmp_path / "ckpt.pt")
    found = calibrated(path, case, "--logit-adjustment", str(tau))
    shares = np.bincount(case.labels, minlength=3) / COUNT
    named = dict(zip(EXPRESSIONS, shares, strict=True))
    assert found.metrics["calibration"]["prior"] == dict(zip(EXPRESSIONS, found.prior, strict=True))
    assert sum(found.prior) == pytest.approx(1)
    photograph = GateFaces(ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg")
    convert(path, tmp_path / "ckpt.onnx", photograph, ExportOptions(prior=named), print_line=lambda _: None)
    faces = np.stack([resize_face(cv2.imread(str(case.root / f"{i}.png")), found.config.input) for i in range(8)])
    with open_session(tmp_path / "ckpt.onnx", provider="cpu") as session:
        probabilities = session(faces).probabilities
    expected = averaged(case.stratum_logits[:8] / found.temperature, average)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "tau"),
    [
        ({"algorithm": {"logit_adjustment": 0.5}}, 0.5),
        ({"resample": "none", "resample_strength": 1.0, "algorithm": {"logit_adjustment": 0.0}}, 0.0),
        ({"resample": "expression", "resample_strength": 1.0, "algorithm": {"logit_adjustment": 0.5}}, 1.0),
        ({"resample": "cell", "resample_strength": 0.5, "algorithm": {"logit_adjustment": 0.5}}, 0.75),
    ],
)
def test_what_training_did_for_rare_expressions_counts_as_an_adjustment(recipe, tau, case, tmp_path):
    path = case.save(tmp_path / "ckpt.pt", provenance={"recipe": {"valid_share": 0.1, "seed": 0, **recipe}})
    found = calibrated(path, case)
    rates = (np.bincount(case.labels, minlength=3) / COUNT) ** (1 - tau / found.temperature)
    assert found.prior == pytest.approx(rates / rates.sum())


def test_an_expression_without_a_face_has_no_prior(case, tmp_path, capsys):
    lines = (case.root / "manifest.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    root = tmp_path / "faces"
    root.mkdir()
    for i in range(COUNT):
        (root / f"{i}.png").write_bytes((case.root / f"{i}.png").read_bytes())
    kept = [line for line in lines if f",{EXPRESSIONS[2]}," not in line]
    (root / "manifest.csv").write_text("".join(kept), encoding="utf-8")
    path = case.save(tmp_path / "ckpt.pt")
    arguments = [path, "--data", root, "--risk", "1"]
    assert f"shows {EXPRESSIONS[2]}" in refused(capsys, *arguments, "--logit-adjustment", "0.5")
    assert main([str(argument) for argument in arguments]) == 0, "without an adjustment no prior is needed"
    assert load_checkpoint(path).prior == ()
    assert "can assume no other prior" in " ".join(capsys.readouterr().out.split())


def test_evaluation_of_checkpoint_and_exported_file_agrees_and_the_runtime_is_uncertain_of_the_rest(case, tmp_path):
    path = case.save(tmp_path / "ckpt.pt")
    figures = calibrated(path, case).metrics["calibration"]
    convert(path, tmp_path / "ckpt.onnx", GateFaces(ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg"))
    for form in ("ckpt.pt", "ckpt.onnx"):
        out = tmp_path / "figures.json"
        arguments = [str(tmp_path / form), "--data", str(case.root), "--split", "valid", "--json", str(out)]
        assert evaluate.main(arguments) == 0
        found = json.loads(out.read_text(encoding="utf-8"))
        assert found["threshold"] == figures["threshold"]
        assert found["ece"] == pytest.approx(figures["ece_after"], abs=1e-4)
        assert (found["coverage"], found["risk"]) == (figures["coverage"], figures["risk"])
        assert found["intervals"]["coverage"] == pytest.approx(figures["intervals"]["coverage"])
    pictures = [resize_face(cv2.imread(str(case.root / f"{i}.png")), case.model.config.input) for i in range(COUNT)]
    with open_session(tmp_path / "ckpt.onnx", provider="cpu") as session:
        faces = faces_from([None] * COUNT, session(np.stack(pictures)), session.artifact)
    assert sum(not face.uncertain for face in faces) == round(figures["coverage"] * COUNT)


def test_all_else_in_the_checkpoint_stays_and_a_second_run_starts_again(case, tmp_path):
    path = case.save(tmp_path / "ckpt.pt", provenance={"seed": 3}, training={"epoch": 2})
    first = calibrated(path, case)
    assert (first.config, first.provenance, first.training) == (case.model.config, {"seed": 3}, {"epoch": 2})
    assert first.metrics["valid"] == {"n": COUNT}
    assert all(torch.equal(first.weights[name], value) for name, value in case.model.state_dict().items())
    second = calibrated(path, case)
    assert (second.temperature, second.threshold, second.metrics) == (
        first.temperature,
        first.threshold,
        first.metrics,
    )


def test_mirrored_is_kept_in_the_checkpoint_until_it_is_calibrated_without(case, tmp_path):
    mirrored = make_case(tmp_path / "faces", "logits", mirrored=True)
    path = mirrored.save(tmp_path / "ckpt.pt", config=dataclasses.replace(mirrored.model.config, mirrored=False))
    found = calibrated(path, mirrored, "--mirrored")
    assert found.config == mirrored.model.config
    probabilities = averaged(mirrored.stratum_logits / found.temperature, "logits")
    expected = float(log_loss(mirrored.labels, probabilities, labels=range(3)))
    assert found.metrics["calibration"]["nll_after"] == pytest.approx(expected, rel=1e-4)
    path = case.save(tmp_path / "ckpt.pt", config=dataclasses.replace(case.model.config, mirrored=True))
    assert calibrated(path, case).config == case.model.config


def test_varied_faces_are_drawn_as_in_training_and_the_same_in_every_run(case, tmp_path):
    config, root = case.model.config, tmp_path / "varied"
    for i in range(COUNT):
        write_image(root / f"{i}.png", i)
    rows = [
        {"path": f"{i}.png", "expression": EXPRESSIONS[i % 3], "confounder": STRATA[i % 2], "split": "valid"}
        for i in range(COUNT)
    ]
    write_manifest(root, rows)
    changes = RandomChanges(augmentation("webcam", config.input.size))
    faces = load_data(root, config.expressions).split("valid")  # noise, in which the detector finds no face
    drawn = [face.numpy() for face, *_ in FaceDataset(faces, config.input, config.strata, changes)]
    logits = sequential_logits(case.model, np.stack(drawn)).numpy()
    cumulated = averaged(logits / 2, config.answer).cumsum(axis=1)
    labels = (np.random.default_rng(0).random((COUNT, 1)) > cumulated).sum(axis=1).clip(max=2)
    write_manifest(root, [row | {"expression": EXPRESSIONS[label]} for row, label in zip(rows, labels, strict=True)])
    expected = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels), config.answer)
    for name in ("one.pt", "other.pt"):
        path = case.save(tmp_path / name)
        assert main([str(path), "--data", str(root), "--risk", "1", "--varied"]) == 0
        found = load_checkpoint(path)
        assert found.temperature == pytest.approx(expected, rel=1e-3)
        assert found.metrics["calibration"]["varied"]
    assert expected == pytest.approx(2, rel=0.5)  # the labels were drawn at 2


@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_faces_of_training_or_testing_are_refused(split, case, tmp_path, capsys):
    path = case.save(tmp_path / "ckpt.pt")
    before = path.read_bytes()
    error = refused(capsys, path, "--data", case.root, "--split", split)
    assert repr(split) in error and "`valid`" in error
    assert path.read_bytes() == before


def test_a_risk_that_cannot_be_reached_writes_the_temperature_and_makes_every_face_uncertain(case, tmp_path, capsys):
    path, aim = case.save(tmp_path / "ckpt.pt"), case.save(tmp_path / "reached.pt")
    reached = calibrated(aim, case)
    capsys.readouterr()
    assert main([str(path), "--data", str(case.root), "--risk", "0.0001"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no threshold leaves at least 100 faces with at most 0.0% of them wrong" in printed
    assert "every face uncertain; set a higher --risk" in printed and "wrong - of those" in printed
    found = load_checkpoint(path)
    assert (found.temperature, found.threshold) == (reached.temperature, 1.0)
    figures = found.metrics["calibration"]
    assert (figures["coverage"], figures["risk"], figures["intervals"]["risk"]) == (0, None, None)
    convert(path, tmp_path / "ckpt.onnx", GateFaces(ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg"))
    pictures = [resize_face(cv2.imread(str(case.root / f"{i}.png")), case.model.config.input) for i in range(9)]
    with open_session(tmp_path / "ckpt.onnx", provider="cpu") as session:
        faces = faces_from([None] * 9, session(np.stack(pictures)), session.artifact)
    assert all(face.uncertain for face in faces)


def test_a_risk_of_1_names_every_face_also_of_few(case, tmp_path):
    root = tmp_path / "few"
    rows = []
    for i in range(30):
        (root / f"{i}.png").parent.mkdir(exist_ok=True)
        (root / f"{i}.png").write_bytes((case.root / f"{i}.png").read_bytes())
        label = EXPRESSIONS[int(case.labels[i])]
        rows.append({"path": f"{i}.png", "expression": label, "confounder": STRATA[i % 2], "split": "valid"})
    path = case.save(tmp_path / "ckpt.pt")
    assert main([str(path), "--data", str(write_manifest(root, rows)), "--risk", "1"]) == 0
    assert load_checkpoint(path).threshold == 0


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "low"])
def test_a_risk_that_is_no_share_is_wrong_usage(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path / "ckpt.pt"), "--data", str(tmp_path), f"--risk={text}"])
    assert left.value.code == 2
    assert "--risk" in capsys.readouterr().err


def test_without_a_validation_split_the_faces_are_those_that_training_kept_for_it(tmp_path):
    rows = []
    for i in range(60):
        write_image(tmp_path / f"{i}.png", i)
        split = "train" if i < 48 else "test"
        rows.append({"path": f"{i}.png", "expression": EXPRESSIONS[i % 3], "confounder": STRATA[i % 2], "split": split})
    root = write_manifest(tmp_path, rows)
    config = dataclasses.replace(tiny_config(), expressions=EXPRESSIONS, strata=STRATA)
    checkpoint = Checkpoint(config, {}, provenance={"recipe": {"valid_share": 0.25, "seed": 7}})
    kept, held = cut_validation(load_data(root, EXPRESSIONS), 0.25, 7)
    assert validation_faces(checkpoint, root, "valid") == held
    assert len(held) == 12 and not {face.path for face in held} & {face.path for face in kept}


def test_data_with_only_validation_faces_are_enough(case):
    checkpoint = Checkpoint(case.model.config, {}, provenance={"recipe": {"valid_share": 0.25, "seed": 7}})
    assert len(validation_faces(checkpoint, case.root, "valid")) == COUNT


def test_without_a_validation_split_and_a_recipe_the_error_lists_the_splits(case, tmp_path, capsys):
    write_image(tmp_path / "faces" / "a.png", 0)
    rows = [{"path": "a.png", "expression": "sad", "confounder": "web", "split": "test"}]
    root = write_manifest(tmp_path / "faces", rows)
    error = refused(capsys, case.save(tmp_path / "ckpt.pt"), "--data", root)
    assert "'valid' has no images" in error and "test" in error


def test_a_missing_checkpoint_is_named(tmp_path, capsys):
    assert "absent.pt" in refused(capsys, tmp_path / "absent.pt", "--data", tmp_path)


def test_the_command_prints_what_was_fitted_and_the_curve(case, tmp_path, capsys):
    found = calibrated(case.save(tmp_path / "ckpt.pt"), case)
    printed = capsys.readouterr().out
    assert f"temperature {found.temperature:.3f}, on {COUNT} faces" in printed
    assert f"threshold {found.threshold:.3f}" in printed and "100.0%" in printed
    assert f"wrote {tmp_path / 'ckpt.pt'}" in printed.replace("\n", "")
