"""The peers get the faces as their own code cuts them, their answers become ours, and the command writes its page."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from benchmarks.peers.__main__ import main
from benchmarks.peers.figures import accuracy_over_sets, read_sets
from benchmarks.peers.model_files import ZOO_CLASSES, ZOO_LANDMARKS, OurModel, ZooModel, zoo_input
from benchmarks.peers.node import SCRIPT, NodeProcess, node_peers
from benchmarks.peers.packages import (
    PYTHON_PEERS,
    PythonPeer,
    facial_emotion_input,
    fer_input,
    what_the_face_input,
)
from benchmarks.peers.peer import Face, box_of, in_seven, square_around, tight
from benchmarks.peers.report import markdown
from doubles.face_folder import write_manifest
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.errors import DataError, IernError, SessionError
from iern.runtime.imaging.detection import Detection
from iern.train.cartoons.data_set import plan, write
from iern.train.network.config import SEVEN_EXPRESSIONS
from repository import PHOTOS

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def face(picture: np.ndarray, *box: float) -> Face:
    return Face(picture, Detection(*box, np.zeros((5, 2)), 1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An exported file that sees the mean colour, with the seven expressions in another order than ours."""
    artifact = dataclasses.replace(tiny_artifact(), expressions=SEVEN_EXPRESSIONS[::-1])
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(tiny_model(artifact))
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "drawn"
    write(root, plan(identities=3), size=48)
    return root


def measured(target: Path, *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json", str(target)]) == 0
    return json.loads(target.read_text(encoding="utf-8"))


def test_a_peers_classes_come_into_our_order_and_the_rest_is_dropped():
    classes = ("neutral", "contempt", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
    rows = np.array([[0.1, 0.5, 0.2, 0.05, 0.01, 0.02, 0.03, 0.09], [0, 1, 0, 0, 0, 0, 0, 0]])
    first, second = in_seven(rows, classes)
    assert SEVEN_EXPRESSIONS == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    np.testing.assert_allclose(first, [0.02, 0.06, 0.04, 0.4, 0.1, 0.18, 0.2], rtol=1e-6)
    np.testing.assert_allclose(second, 1 / 7, err_msg="nothing is known of the seven")


def test_every_peer_has_the_seven_expressions_and_fewer_are_refused():
    for classes in (ZOO_CLASSES, *(peer.classes for peer in PYTHON_PEERS)):
        assert set(in_seven(np.eye(7), classes).argmax(axis=1).tolist()) == set(range(7))
    with pytest.raises(IernError, match="expected also disgust, fear"):
        in_seven(np.eye(2), ("angry", "happy"))


def test_the_square_has_the_boxs_centre_and_ends_with_the_picture_or_is_black_beyond():
    picture = noise(40, 60)
    np.testing.assert_array_equal(square_around(face(picture, 10, 12, 8, 10)), picture[12:22, 9:19])
    np.testing.assert_array_equal(square_around(face(picture, 10, 12, 8, 10), border=2), picture[10:24, 7:21])
    np.testing.assert_array_equal(square_around(face(picture, 10, 12, 8, 10), margin=1.4), picture[10:24, 7:21])
    beyond = face(picture, -3, 32, 10, 10)
    np.testing.assert_array_equal(square_around(beyond), picture[32:, :7])
    black = np.pad(picture, ((0, 2), (3, 0), (0, 0)))[32:42, :10]
    np.testing.assert_array_equal(square_around(beyond, black_beyond=True), black)
    assert square_around(Face(picture, None)) is picture


def test_the_box_ends_at_the_border():
    picture = noise(40, 60)
    np.testing.assert_array_equal(box_of(face(picture, 50, -4, 20, 30)), picture[:26, 50:])
    assert box_of(Face(picture, None)) is picture


def test_a_tight_crop_is_a_picture_of_its_own():
    picture = noise(200, 200)
    seen = tight(face(picture, 50, 60, 80, 100))
    np.testing.assert_array_equal(seen.picture, picture[66:153, 46:133], err_msg="87 pixels about (90, 110)")
    assert seen.detection is None


@pytest.mark.parametrize(
    ("prepare", "shape", "low"),
    [
        (fer_input, (1, 64, 64, 1), -1),
        (facial_emotion_input, (1, 1, 48, 48), -1),
        (what_the_face_input, (1, 1, 48, 48), 0),
    ],
)
def test_an_input_is_the_grey_face_between_its_two_ends(prepare, shape, low):
    halves = np.zeros((96, 96, 3), np.uint8)
    halves[:, 48:] = 255
    made = prepare(Face(halves, None))
    assert made.shape == shape and made.dtype == np.float32
    plane = made.reshape(shape[1] if shape[1] > 1 else shape[2], -1)
    assert (plane[:, 0] == low).all() and (plane[:, -1] == 1).all()


def zoo_file(path: Path) -> Path:
    """A stand-in for the zoo's file, with its input and output: the mean colour, RGB, -> the first three classes."""
    weight = np.zeros((3, 7), np.float32)
    weight[:, :3] = 9 * np.eye(3)
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["colour"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["colour", "weight"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, [1, 7])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
    return path


def test_the_zoos_landmarks_come_to_its_standard_points():
    """The dots of a face that is turned, scaled and moved are found at the standard points."""
    angle, scale, shift = 0.4, 1.7, (60, 20)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ZOO_LANDMARKS @ turn.T + shift
    picture = np.zeros((320, 320, 3), np.uint8)
    for point in landmarks:
        cv2.circle(picture, tuple(np.rint(16 * point).astype(int).tolist()), 3 * 16, (255, 255, 255), -1, shift=4)
    seen = zoo_input(Face(picture, Detection(0, 0, 1, 1, landmarks, 1.0)))
    assert seen.shape == (1, 3, 112, 112) and (seen.min(), seen.max()) == (-1, 1)
    dots = cv2.connectedComponentsWithStats((seen[0, 0] > 0).astype(np.uint8))[3][1:]
    assert len(dots) == 5
    nearest = np.linalg.norm(dots[:, None] - ZOO_LANDMARKS[None], axis=2).min(axis=0)
    assert nearest.max() < 0.5, "pixels"


def test_the_zoos_file_gets_rgb_and_its_order_of_classes(tmp_path):
    zoo = ZooModel(zoo_file(tmp_path / "zoo.onnx"))
    assert zoo.available() is None
    colours = [Face(np.full((50, 40, 3), colour, np.uint8), None) for colour in ((0, 0, 255), (0, 255, 0), (255, 0, 0))]
    found = [SEVEN_EXPRESSIONS[index] for index in zoo.predict(colours).argmax(axis=1)]
    assert found == ["anger", "disgust", "fear"], "red, green and blue: the first three classes"
    assert zoo.milliseconds(colours[0]) > 0
    assert zoo.weights == (tmp_path / "zoo.onnx").stat().st_size


def test_a_peer_that_is_not_here_has_a_reason_and_a_remedy(tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    absent = PythonPeer(**{**vars(PYTHON_PEERS[0]), "module": "no_such_package", "needs": ("cv2", "nor_this")})
    peers = [ZooModel(None), ZooModel(tmp_path / "none.onnx"), ZooModel(tmp_path / "damaged.onnx"), absent]
    reasons = [peer.available() for peer in (*peers, *node_peers(None))]
    assert reasons[0] == "no file is given"
    assert "none.onnx cannot be loaded" in reasons[1]
    assert "damaged.onnx cannot be loaded" in reasons[2]
    assert reasons[3] == "no_such_package and nor_this cannot be imported"
    assert reasons[4:] == ["no folder of packages is given"] * 2
    for peer in (*PYTHON_PEERS, *node_peers(None)):
        assert peer.name in peer.install


def test_a_peer_whose_weights_are_damaged_has_a_reason_too(tmp_path, monkeypatch):
    (tmp_path / "damaged_peer").mkdir()
    (tmp_path / "damaged_peer" / "__init__.py").write_text("raise OSError\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    shipped = {peer.name: peer for peer in PYTHON_PEERS}["what-the-face-classification"]
    reason = dataclasses.replace(shipped, module="damaged_peer").available()
    assert reason is not None and reason.startswith("its weights cannot be loaded (FileNotFoundError")


def test_the_command_measures_our_model_and_lists_the_peers_that_are_not_installed(tmp_path, model, drawn, capsys):
    results = measured(tmp_path / "peers.json", model, "--data", drawn)
    page = (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert page == markdown(results)
    output = capsys.readouterr()
    assert page in output.out
    assert (results["data"], results["split"], results["detect"], results["missed"]) == (["drawn"], "test", False, 0)
    here = {peer["name"] for peer in results["models"]}
    gone = {peer["name"] for peer in results["absent"]}
    assert "tiny.onnx" in here
    assert here | gone == {"tiny.onnx", ZooModel.name, *(peer.name for peer in (*PYTHON_PEERS, *node_peers(None)))}
    assert {ZooModel.name, *(peer.name for peer in node_peers(None))} <= gone
    for peer in results["absent"]:
        line = f"{peer['name']}: {peer['reason']}. Remedy: {peer['install']}"
        assert line in page and line in output.err
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    keys = set(results) | set(results["models"][0]) - {"n", "units"}
    assert not {key for key in keys if key not in shown}, "keys that the help does not explain"


def test_the_figures_are_those_of_scikit_learn(tmp_path, model, drawn):
    results = measured(tmp_path / "peers.json", model, "--data", drawn)
    own = results["models"][0]
    faces = [each for _, each in read_sets([drawn], "test")]
    with OurModel(model) as opened:
        predicted = opened.predict([Face(cv2.imread(str(each.path)), None) for each in faces]).argmax(axis=1)
    labels, sets = np.array([each.expression for each in faces]), np.array([each.confounder for each in faces])
    assert own["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert set(own["sets"]) == set(sets.tolist()) == set(results["sets"])
    by_set = {name: (labels[sets == name], predicted[sets == name]) for name in own["sets"]}
    for name, (true, found) in by_set.items():
        assert own["sets"][name]["accuracy"] == pytest.approx(accuracy_score(true, found))
        assert own["sets"][name]["mean_recall"] == pytest.approx(balanced_accuracy_score(true, found))
        assert own["sets"][name]["macro_f1"] == pytest.approx(
            f1_score(true, found, average="macro", labels=np.unique(true), zero_division=0)
        )
        assert results["sets"][name]["faces"] == len(true)
    mean = np.mean([accuracy_score(true, found) for true, found in by_set.values()])
    assert own["mean_over_sets"]["accuracy"] == pytest.approx(mean)
    assert accuracy_over_sets(np.eye(7)[predicted], sets, labels) == pytest.approx(mean)
    assert own["accuracy_by_crop"] == {"own": pytest.approx(mean)}


def test_two_models_and_two_roots_of_the_same_sets(tmp_path, model, drawn):
    again = shutil.copy(model, tmp_path / "again.onnx")
    other = shutil.copytree(drawn, tmp_path / "other")
    results = measured(tmp_path / "peers.json", model, again, "--data", drawn, "--data", other)
    assert set(results["sets"]) == {f"{root}/{name}" for root in ("drawn", "other") for name in read_names(drawn)}
    with pytest.raises(DataError, match="the same name"):
        read_sets([drawn, drawn], "test")
    first, second = results["models"][:2]
    assert (first["name"], second["name"], first["sets"]) == ("tiny.onnx", "again.onnx", second["sets"])


def read_names(root: Path) -> set[str]:
    with open(root / "manifest.csv", encoding="utf-8", newline="") as file:
        return {row["confounder"] for row in csv.DictReader(file) if row["split"] == "test"}


def test_a_whole_picture_is_cropped_to_its_largest_face_and_one_without_a_face_is_left_out(tmp_path, model):
    for name in ("astronaut.jpg", "obama_portrait.jpg"):
        shutil.copy(PHOTOS / name, tmp_path / name)
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 90, np.uint8))
    small = cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg")), (100, 100))
    both = cv2.imread(str(PHOTOS / "obama_portrait.jpg"))
    both[:100, :100] = small
    cv2.imwrite(str(tmp_path / "both.png"), both)
    expressions = {"astronaut.jpg": "happiness", "obama_portrait.jpg": "happiness", "empty.png": "fear"}
    rows = [
        {"path": name, "expression": expression, "confounder": "photos", "split": "test"}
        for name, expression in {**expressions, "both.png": "happiness"}.items()
    ]
    write_manifest(tmp_path, rows)
    results = measured(tmp_path / "out" / "peers.json", model, "--data", tmp_path, "--detect")
    assert (results["missed"], results["sets"]) == (1, {"photos": {"faces": 3}})
    assert "In 1 of 4 pictures no face was found" in (tmp_path / "out" / "peers.md").read_text(encoding="utf-8")
    for peer in results["models"]:
        assert set(peer["accuracy_by_crop"]) == ({"own"} if peer["name"] == "tiny.onnx" else {"own", "tight"})


def test_pictures_without_any_face_and_models_of_other_expressions_are_refused(tmp_path, model, capsys):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 90, np.uint8))
    write_manifest(tmp_path, [{"path": "empty.png", "expression": "fear", "confounder": "none", "split": "test"}])
    target = ["--json", str(tmp_path / "out.json")]
    assert main([str(model), "--data", str(tmp_path), "--detect", *target]) == 1
    assert "no face was found" in capsys.readouterr().err
    (tmp_path / "three.onnx").write_bytes(tiny_model())
    assert main([str(tmp_path / "three.onnx"), "--data", str(tmp_path), *target]) == 1
    assert "expected also anger" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


ECHO = """\
import {{ answer }} from {protocol};
await answer({{ classes: ['red', 'green', 'blue'] }}, ({{ height, width, rgb }}) => {{
  console.log('a package that prints');
  const sums = [0, 0, 0];
  rgb.forEach((value, place) => {{ sums[place % 3] += value; }});
  if (width === 7) throw new Error('seven is too much');
  return {{ probabilities: sums, milliseconds: height * 1000 + width }};
}});
"""


@pytest.fixture
def echo(tmp_path) -> Path:
    """A script that speaks the real protocol and answers with the sums of the three colours."""
    path = tmp_path / "echo.mjs"
    path.write_text(ECHO.format(protocol=json.dumps(SCRIPT.with_name("protocol.mjs").as_uri())), encoding="utf-8")
    return path


@needs_node
def test_a_peer_in_node_gets_every_pixel_of_every_crop(echo):
    process = NodeProcess(echo)
    try:
        assert process.description == {"classes": ["red", "green", "blue"]}
        for height, width in ((3, 5), (300, 400), (1, 1)):  # the second is larger than a pipe holds
            crop = noise(height, width)
            line = process(crop)
            assert line["probabilities"] == crop.sum(axis=(0, 1))[::-1].tolist()
            assert line["milliseconds"] == 1000 * height + width
    finally:
        process.close()


@needs_node
def test_a_peer_in_node_that_ends_is_an_error_with_its_own_reason(echo, tmp_path):
    process = NodeProcess(echo)
    with pytest.raises(SessionError, match=r"echo\.mjs has ended"):
        process(noise(2, 7))
    reason = node_peers(tmp_path)[0].available()
    assert reason is not None and "Cannot find module '@tensorflow/tfjs'" in reason
