"""The audit runs every model on the same changed faces, counts right, and writes all of its files or none."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image as Pillow

from doubles.face_folder import write_manifest
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.audit import report as audit_report
from iern.audit.__main__ import main
from iern.audit.changes import CHANGES
from iern.audit.report import markdown
from iern.runtime.backends.onnx import open_session
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import resize_face
from iern.runtime.intervention import stratum_disagreement
from iern.train.cartoons.data_set import plan, write
from iern.train.cartoons.muscles import EXPRESSIONS

CHANGE_OF = {change.name: change for change in CHANGES}


TEMPERATURE = 0.4


def artifact(size: int = 32):
    return dataclasses.replace(tiny_artifact(size, TEMPERATURE), expressions=EXPRESSIONS)


def blind_model() -> bytes:
    """A model whose output does not depend on its input."""
    model = onnx.load_from_string(tiny_model(artifact()))
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), "weight"))
    return model.SerializeToString()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of models that see the mean colour alone, and of one that sees nothing."""
    folder = tmp_path_factory.mktemp("models")
    contents = {
        "colour.onnx": tiny_model(artifact()),
        "again.onnx": tiny_model(artifact()),
        "large.onnx": tiny_model(artifact(size=48)),
        "other.onnx": tiny_model(artifact(), seed=1),
        "blind.onnx": blind_model(),
        "three.onnx": tiny_model(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name.removesuffix(".onnx"): folder / name for name in contents}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A set of cartoons: 7 expressions of 3 people, one of them in each split, under 3 degradations."""
    root = tmp_path_factory.mktemp("data") / "cartoons"
    write(root, plan(identities=3), size=48)
    return root


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """60 faces, each of one colour of its own."""
    root = tmp_path_factory.mktemp("flat")
    colours = np.random.default_rng(0).integers(30, 226, (60, 3), np.uint8)
    rows = []
    for i, colour in enumerate(colours):
        Pillow.fromarray(np.broadcast_to(colour, (40, 40, 3)).copy()).save(root / f"{i}.png")
        rows.append({"path": f"{i}.png", "expression": EXPRESSIONS[i % 7], "confounder": "none", "split": "test"})
    return write_manifest(root, rows)


def audited(folder, models, root, *arguments) -> dict:
    """The results of an audit of some files."""
    target = folder / "audit.json"
    words = [*map(str, models), "--data", str(root), "--json", str(target), "--threads", "1", *arguments]
    assert main(words) == 0
    return json.loads(target.read_text(encoding="utf-8"))


def refused(models, root, capsys, *arguments) -> str:
    assert main([*map(str, models), "--data", str(root), *arguments]) == 1
    return capsys.readouterr().err


def test_the_command_writes_results_a_page_and_a_picture(tmp_path, models, drawn, capsys):
    results = audited(tmp_path, [models["colour"], models["other"]], drawn)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.json", "audit.md", "audit.png"]
    assert (tmp_path / "audit.md").read_text(encoding="utf-8") == markdown(results, "audit.png")
    with Pillow.open(tmp_path / "audit.png") as picture:
        picture.verify()
        assert min(picture.size) > 400
    assert (results["faces"], results["units"], results["split"], results["data"]) == (21, 1, "test", "cartoons")
    assert [change["name"] for change in results["changes"]] == list(CHANGE_OF)
    first, second = results["models"]
    assert (first["name"], first["precision"], first["strata"], first["provider"]) == ("colour.onnx", "fp32", 2, "cpu")
    for model in (first, second):
        assert {name: len(grades) for name, grades in model["grades"].items()} == dict.fromkeys(CHANGE_OF, 5)
        for grades in model["grades"].values():
            assert grades[0]["flip_rate"] == {"value": 0, "low": 0, "high": 0} and grades[0]["shift"] == 0
    figures = set(first["grades"]["blur"][1])
    assert figures == {"accuracy", "flip_rate", "shift", "disagreement", "auroc"}
    assert set(second["grades"]["blur"][1]) == figures | {"minus_first"}
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    keys = set(results) | set(first) | set(second["overall"]) | figures
    assert not {key for key in keys if key not in shown}, "keys that the help does not explain"
    assert all(f"\n  {name} " in shown for name in CHANGE_OF)


def test_every_figure_is_what_a_count_by_hand_gives(tmp_path, models, drawn):
    results = audited(
        tmp_path, [models["other"], models["colour"]], drawn, "--split", "all", "--changes", "cool", "jpeg"
    )
    with open(drawn / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([EXPRESSIONS.index(row["expression"]) for row in rows])
    spec = artifact().input
    with open_session(models["colour"], "cpu") as session:
        images = [read_image(drawn / row["path"]) for row in rows]
        plain = session(np.stack([resize_face(image, spec) for image in images]))
        for name, grade in (("cool", 3), ("jpeg", 1)):
            made = [CHANGE_OF[name].grade(image, grade, row["path"]) for image, row in zip(images, rows, strict=True)]
            changed = session(np.stack([resize_face(image, spec) for image in made]))
            found = results["models"][1]["grades"][name][grade]
            right = changed.probabilities.argmax(1) == labels
            flipped = changed.probabilities.argmax(1) != plain.probabilities.argmax(1)
            assert found["accuracy"]["value"] == pytest.approx(right.mean())
            assert found["flip_rate"]["value"] == pytest.approx(flipped.mean())
            distances = np.maximum(0, changed.probabilities - plain.probabilities.astype(float)).sum(1)
            assert found["shift"] == pytest.approx(distances.mean(), abs=1e-6)
            disagreement = stratum_disagreement(changed.stratum_logits, TEMPERATURE)
            assert found["disagreement"] == pytest.approx(disagreement.mean(), abs=1e-6)
            scores = {"disagreement": disagreement, "uncertainty": 1 - changed.probabilities.max(1)}
            for score, values in scores.items():
                above = values[~right][:, None] - values[right][None]
                expected = ((above > 0) + 0.5 * (above == 0)).mean()
                assert found["auroc"][score] == pytest.approx(expected, abs=0.01)
            first = results["models"][0]["grades"][name][grade]
            for rate, difference in found["minus_first"].items():
                assert difference["value"] == pytest.approx(found[rate]["value"] - first[rate]["value"])
    cells = [cell for grades in results["models"][1]["grades"].values() for cell in grades[1:]]
    expected = np.mean([cell["flip_rate"]["value"] for cell in cells])
    assert results["models"][1]["overall"]["flip_rate"]["value"] == pytest.approx(expected)


def test_every_model_sees_the_same_faces_alone_or_with_others(tmp_path, models, drawn):
    together = audited(tmp_path, [models[name] for name in ("other", "colour", "again")], drawn, "--split", "all")
    alone = audited(tmp_path, [models["colour"]], drawn, "--split", "all", "--changes", "noise", "shadow", "rotation")
    _, colour, again = together["models"]
    (single,) = alone["models"]
    assert colour["grades"] == again["grades"]
    for name, grades in single["grades"].items():
        assert [{**cell, "minus_first": None} for cell in grades] == [
            {**cell, "minus_first": None} for cell in colour["grades"][name]
        ]


def test_a_model_of_another_input_size_sees_the_same_scene(tmp_path, models, flat):
    """The mean colour of a face of one colour is the same at any size, and its noise differs by what is averaged."""
    results = audited(tmp_path, [models["colour"], models["large"]], flat)
    small, large = results["models"]
    for name in set(CHANGE_OF) - {"noise"}:
        for left, right in zip(small["grades"][name], large["grades"][name], strict=True):
            assert right["shift"] == pytest.approx(left["shift"], abs=0.01)


def test_which_faces_are_taken_does_not_depend_on_the_manifests_order(tmp_path, models, drawn):
    some = audited(tmp_path, [models["colour"]], drawn, "--split", "all", "--faces", "20", "--changes", "noise")
    manifest = drawn / "manifest.csv"
    content = manifest.read_text(encoding="utf-8")
    head, *rows = content.splitlines(keepends=True)
    manifest.write_text("".join([head, *reversed(rows)]), encoding="utf-8")
    try:
        same = audited(tmp_path, [models["colour"]], drawn, "--split", "all", "--faces", "20", "--changes", "noise")
    finally:
        manifest.write_text(content, encoding="utf-8")
    assert some["faces"] == 20 and same["models"] == some["models"]


def test_a_model_that_ignores_its_input_never_flips_nor_shifts(tmp_path, models, drawn):
    (blind,) = audited(tmp_path, [models["blind"]], drawn, "--split", "all")["models"]
    for grades in blind["grades"].values():
        for cell in grades:
            assert cell["flip_rate"] == {"value": 0, "low": 0, "high": 0} and cell["shift"] == 0
            assert cell["accuracy"]["value"] == pytest.approx(1 / 7)
            assert cell["auroc"] == {"disagreement": None, "uncertainty": None}


def test_a_model_of_the_mean_colour_flips_under_light_and_casts_and_not_where_means_stay(tmp_path, models, flat):
    (colour,) = audited(tmp_path, [models["colour"]], flat)["models"]
    flips = {name: grades[-1]["flip_rate"]["value"] for name, grades in colour["grades"].items()}
    for name in ("under-exposure", "over-exposure", "shadow", "warm", "cool"):
        assert flips[name] > 0.05
    for name in ("rotation", "blur", "resolution"):
        assert flips[name] == 0
    exposed = [cell["shift"] for cell in colour["grades"]["under-exposure"]]
    assert exposed == sorted(exposed) and exposed[-1] > 0.2


def test_models_of_other_expressions_are_refused(models, drawn, tmp_path, capsys):
    target = tmp_path / "audit.json"
    error = refused([models["colour"], models["three"]], drawn, capsys, "--json", str(target))
    assert (
        "three.onnx has the expressions neutral, happy, sad, colour.onnx " in error
        and "audit these two separately" in error
    )
    assert list(tmp_path.iterdir()) == []


def test_a_model_given_twice_a_checkpoint_and_a_missing_folder_are_refused(models, drawn, tmp_path, capsys):
    elsewhere = ["--json", str(tmp_path / "audit.json")]
    assert "given twice" in refused([models["colour"], models["colour"]], drawn, capsys, *elsewhere)
    assert "must be exported first" in refused(["ckpt.pt"], drawn, capsys, *elsewhere)
    assert "no such folder" in refused([models["colour"]], tmp_path / "none", capsys, *elsewhere)
    assert "'elsewhere' has no images" in refused([models["colour"]], drawn, capsys, "--split", "elsewhere", *elsewhere)
    (tmp_path / "audit.md").mkdir()
    assert "is a folder" in refused([models["colour"]], drawn, capsys, *elsewhere)
    file = models["colour"] / "audit.json"
    assert "cannot be written to" in refused([models["colour"]], drawn, capsys, "--json", str(file))


def test_two_files_of_one_name_are_shown_with_their_folders(tmp_path, models, drawn):
    copies = [tmp_path / folder / "model.onnx" for folder in ("baseline", "iern")]
    for copy, source in zip(copies, ("colour", "other"), strict=True):
        copy.parent.mkdir()
        copy.write_bytes(models[source].read_bytes())
    results = audited(tmp_path, copies, drawn, "--changes", "blur")
    assert [model["name"] for model in results["models"]] == ["baseline/model.onnx", "iern/model.onnx"]


@pytest.mark.parametrize("wrong", [["--json", "audit.png"], ["--faces", "0"], ["--changes", "fog"]])
def test_wrong_arguments_are_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as left:
        main(["model.onnx", "--data", "faces", *wrong])
    assert left.value.code == 2


def test_ctrl_c_leaves_older_results_as_they_were_and_nothing_beside_them(tmp_path, models, drawn, monkeypatch):
    audited(tmp_path, [models["colour"]], drawn, "--changes", "blur")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_report, "_plot", interrupted)  # the last thing that is made
    words = [str(models["other"]), "--data", str(drawn), "--json", str(tmp_path / "audit.json"), "--quick"]
    assert main(words) == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
