"""The gate accepts a right file and refuses every wrong one, even if only the strata differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from doubles.tiny_export import exported_tiny, made_up
from doubles.tiny_network import random_faces, sequential_logits, tiny_config, tiny_network
from iern.export.parity.exact import (
    FLOAT32,
    LOGITS_LIMIT,
    ONNXRUNTIME,
    STRATA_LIMIT,
    Difference,
    ExactParity,
    check_exact_parity,
    compare,
    normalised,
    outputs_of_network,
)
from iern.export.parity.gate_faces import (
    MANY,
    PEOPLE,
    GateFaces,
    crops_of_data_set,
    drawn_faces,
    edge_cases,
    faces_of,
    few_faces,
    many_faces,
    photographed_faces,
)
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import DataError, SourceError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, crop_faces
from iern.runtime.intervention import softmax
from iern.train.cartoons.data_set import plan, render_all, write
from iern.train.network.iern import Baseline
from repository import ROOT

PHOTOGRAPHS = ROOT / "tests" / "data" / "photos"
FACES = np.concatenate([random_faces(4), edge_cases(64)])

Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model() -> Baseline:
    return tiny_network()


@pytest.fixture(scope="module")
def sound(model) -> bytes:
    return exported_tiny(model)


def planted(content: bytes, fault: Callable[[Weights], None]) -> bytes:
    """The file with its weights changed by `fault`."""
    graph = onnx.load_from_string(content)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in graph.graph.initializer}
    fault(weights)
    for tensor in graph.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    return graph.SerializeToString()


def stem(weights: Weights) -> str:
    """Name of the first convolution's weight: the one that reads three channels."""
    return next(name for name, value in weights.items() if value.ndim == 4 and value.shape[1] == 3)


def mean_folded_into_the_padded_convolution(weights: Weights) -> None:
    name = stem(weights)
    weights[name.replace("weight", "bias")] -= np.einsum("ocyx,c->o", weights[name], weights["mean"].ravel())
    weights["mean"][:] = 0


def colours_swapped(weights: Weights) -> None:
    weights[stem(weights)] = weights[stem(weights)][:, ::-1].copy()


def one_centre_moved(weights: Weights) -> None:
    """By a hundredth, which hardly changes logits and argmax."""
    weights["head.entry.context"][1] *= 1.01


def strata_swapped(weights: Weights) -> None:
    """Their mean, and so every probability, is the same."""
    for name in ("head.entry.context", "head.entry.entered_context"):
        weights[name] = weights[name][[1, 0, 2]]


def one_window_wrong(weights: Weights) -> None:
    weights["tail.windows"][0, 0] = 0


def one_bias_twice(weights: Weights) -> None:
    weights["head.entry.mix.bias"] *= 2


def one_weight_not_a_number(weights: Weights) -> None:
    weights["tail.of_mean.weight"][0, 0] = np.nan


def one_weight_infinite(weights: Weights) -> None:
    weights["head.leave.weight"][0, 0, 0, 0] = np.inf


FAULTS = (
    mean_folded_into_the_padded_convolution,
    colours_swapped,
    one_centre_moved,
    strata_swapped,
    one_window_wrong,
    one_bias_twice,
    one_weight_not_a_number,
    one_weight_infinite,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strata": 1},
        {"method": "disentanglement"},
        {"method": "baseline"},
        {"block": "paper", "answer": "probabilities"},
    ],
    ids=str,
)
def test_a_right_file_passes(changes):
    model = tiny_network(tiny_config(**changes))
    parity = check_exact_parity(model, exported_tiny(model), FACES)
    assert parity.passed, parity.failures
    assert parity.faces == len(FACES)
    assert set(parity.forms) == {FLOAT32, ONNXRUNTIME}
    assert all(difference.argmax_changes == 0 for difference in parity.forms.values())
    assert (parity.strata_spread > 0) == (parity.forms[ONNXRUNTIME].strata > 0)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_refused_because_of_the_files_outputs(model, sound, fault):
    parity = check_exact_parity(model, planted(sound, fault), FACES)
    assert not parity.passed
    assert all(line.startswith(ONNXRUNTIME) for line in parity.failures)


def test_a_file_with_another_temperature_is_refused(model, sound):
    failures = check_exact_parity(model, sound, FACES, temperature=1.1).failures
    assert len(failures) == 1
    assert "probabilities differ" in failures[0]


def test_a_network_with_nan_in_its_weights_is_refused(sound):
    broken = tiny_network()
    with torch.no_grad():
        broken.classifier.linear.bias[0] = float("nan")
    parity = check_exact_parity(broken, sound, FACES)
    assert {line.split(":")[0] for line in parity.failures} == {FLOAT32, ONNXRUNTIME}


def test_identical_strata_have_no_spread_and_pass():
    model = tiny_network()
    with torch.no_grad():
        model.confounders[:] = model.confounders[:1]
    parity = check_exact_parity(model, exported_tiny(model), FACES)
    assert parity.strata_spread < 1e-12
    assert parity.passed, parity.failures
    json.loads(json.dumps(parity.to_dict(), allow_nan=False))


def test_the_reference_is_the_sequential_network_in_float64(model):
    faces = random_faces(3)
    outputs = outputs_of_network(model, faces, 2.0, torch.float64)
    expected = sequential_logits(model, faces).numpy()
    np.testing.assert_allclose(outputs.stratum_logits, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(outputs.probabilities, softmax(expected.mean(axis=1) / 2), rtol=0, atol=1e-12)


def test_normalisation_is_red_green_blue_minus_mean_over_deviation():
    face = np.zeros((1, 2, 2, 3), np.uint8)
    face[0, 0, 1] = (255, 51, 102)  # blue, green, red
    image = normalised(face, tiny_config(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2)))
    assert image.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(image[0, :, 0, 1], [(0.4 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.2], atol=1e-15)
    np.testing.assert_allclose(image[0, :, 1, 1], [-0.2, -0.8, -1.5], atol=1e-15)


def test_an_error_in_the_strata_is_compared_with_their_spread_and_not_with_the_logits():
    reference = np.random.default_rng(0).normal(0, 100, (5, 1, 4)) + np.random.default_rng(1).normal(0, 1, (5, 3, 4))
    wrong = reference.copy()
    wrong[2, 1, 0] += 0.02
    difference = compare(made_up(reference), made_up(wrong))
    assert difference.logits < 1e-4
    assert difference.strata > 2e-3
    rounding = Difference(logits=1e-7, strata=1e-6, probabilities=1e-7, argmax_changes=0)
    (failure,) = ExactParity(5, 400, 0.05, {FLOAT32: rounding, ONNXRUNTIME: difference}).failures
    assert failure.startswith(f"{ONNXRUNTIME}: strata differ by")


def test_the_limit_for_strata_that_hardly_differ_is_a_millionth_of_the_logits():
    reference = np.random.default_rng(0).normal(0, 1, (5, 1, 4)) + np.random.default_rng(1).normal(0, 1e-6, (5, 3, 4))
    logit_range = np.ptp(reference.mean(axis=1))
    for error, passes in ((0.5e-6, True), (4e-6, False)):
        wrong = reference.copy()
        wrong[2, 1, 0] += error * logit_range
        difference = compare(made_up(reference), made_up(wrong))
        assert difference.logits < LOGITS_LIMIT
        assert (difference.strata < STRATA_LIMIT) == passes


def test_another_first_expression_is_a_change_unless_the_reference_has_a_tie():
    reference = np.array([[[2.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]], [[0.0, 1.0, 1.0]]])
    other = np.array([[[1.0, 2.0, 0.0]], [[1.0, 1.1, 0.0]], [[1.1, 1.0, 1.0]]])
    assert compare(made_up(reference), made_up(other)).argmax_changes == 2
    assert compare(made_up(reference), made_up(reference)).argmax_changes == 0


def test_the_table_has_a_line_for_each_form_and_one_for_the_limits(model, sound):
    lines = check_exact_parity(model, sound, FACES[:4]).table().splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [FLOAT32, ONNXRUNTIME, "limit"]
    assert lines[-1].split() == ["limit", "1.0e-04", "1.0e-03", "1.0e-04", "0"]
    assert len({len(line) for line in lines}) == 1


def test_the_stored_numbers_are_plain(model, sound):
    stored = check_exact_parity(model, sound, FACES[:4]).to_dict()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert type(stored["logit_range"]) is type(stored["forms"][ONNXRUNTIME]["strata"]) is float
    assert type(stored["forms"][ONNXRUNTIME]["argmax_changes"]) is int


def test_photographed_faces_are_those_that_the_runtime_crops():
    spec = InputSpec(size=48)
    path = PHOTOGRAPHS / "biden_portrait.jpg"
    image = read_image(path)
    np.testing.assert_array_equal(photographed_faces(spec, path, 1), crop_faces(image, FaceDetector()(image), spec))


def test_the_demo_clip_gives_several_faces_then_edge_cases():
    spec = InputSpec(size=48)
    faces = few_faces(spec)
    photographs = photographed_faces(spec, DEMO_CLIP, 8)
    assert len(photographs) >= 8
    assert faces.shape == (len(photographs) + len(edge_cases(48)), 48, 48, 3)
    np.testing.assert_array_equal(faces, few_faces(spec))
    extremes = {(int(face.min()), int(face.max())) for face in edge_cases(48)}
    assert {(0, 0), (255, 255), (0, 255)} <= extremes


def test_a_folder_without_a_face_is_reported(tmp_path):
    with pytest.raises(SourceError, match="no images"):
        few_faces(InputSpec(size=48), tmp_path)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    with pytest.raises(DataError, match="no face is found"):
        few_faces(InputSpec(size=48), tmp_path)


def test_a_thousand_faces_are_those_of_the_clip_then_drawn_ones():
    spec = InputSpec(size=32)
    faces = many_faces(spec)
    clip = faces_of(spec, DEMO_CLIP, MANY)
    assert len(clip) > 100
    assert len(faces) == MANY + len(edge_cases(32))
    np.testing.assert_array_equal(faces[: len(clip)], clip)
    assert len(np.unique(faces.reshape(len(faces), -1), axis=0)) > 0.98 * MANY, "repeated faces prove nothing"


def test_a_command_reads_each_set_of_faces_once(tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), read_image(PHOTOGRAPHS / "biden_portrait.jpg"))
    faces, spec = GateFaces(tmp_path), InputSpec(size=32)
    few = faces.few(spec)
    np.testing.assert_array_equal(few, few_faces(spec, tmp_path))
    (tmp_path / "face.png").unlink()
    assert faces.few(spec) is few
    with pytest.raises(SourceError):
        faces.many(spec)


def test_enough_people_are_drawn():
    assert len(drawn_faces(16, MANY)) == MANY
    assert len(plan(PEOPLE)) >= MANY


def test_faces_of_a_data_set_are_unchanged_and_evenly_spread(tmp_path):
    samples = plan(3, expressions=("anger", "happiness"))
    write(tmp_path / "set", samples, size=24)
    spec = InputSpec(size=24)
    pictures = render_all(samples, 24)
    np.testing.assert_array_equal(faces_of(spec, tmp_path / "set", MANY), pictures)
    np.testing.assert_array_equal(faces_of(spec, tmp_path / "set", 9), pictures[::2])
    (tmp_path / "set" / "manifest.csv").unlink()
    assert {path.name for path in crops_of_data_set(tmp_path / "set")} == {Path(sample.path).name for sample in samples}
    assert len(faces_of(spec, tmp_path / "set", MANY)) == len(samples)
