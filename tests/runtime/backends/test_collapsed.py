"""Which file with collapsed strata belongs to a model."""

from __future__ import annotations

import dataclasses

import pytest

from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.backends.collapsed import collapsed_beside, open_collapsed
from iern.runtime.backends.onnx import open_session

WHOLE = dataclasses.replace(tiny_artifact(), checkpoint_sha256="a" * 64)
COLLAPSED = dataclasses.replace(WHOLE, strata=("mean",), collapsed_from=2)


def opened(folder, whole=WHOLE, collapsed=COLLAPSED, name="office.collapsed.onnx"):
    """The tiny model as office.onnx, and what is opened beside it."""
    model = folder / "office.onnx"
    model.write_bytes(tiny_model(whole))
    if collapsed is not None:
        (folder / name).write_bytes(tiny_model(collapsed))
    with open_session(model, provider="cpu", threads=1) as session:
        found = open_collapsed(model, session, threads=1)
    if found is not None:
        found.close()
    return found


def test_the_file_of_the_same_checkpoint_beside_the_model_is_opened(tmp_path):
    found = opened(tmp_path)
    assert found is not None
    assert found.artifact == COLLAPSED


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_sha256": "b" * 64},
        {"temperature": 2.0},
        {"collapsed_from": 3},
        {"collapsed_from": 0},
        {"answer": "probabilities"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_file_of_another_checkpoint_or_calibration_is_not_taken(tmp_path, change):
    assert opened(tmp_path, collapsed=dataclasses.replace(COLLAPSED, **change)) is None


def test_without_a_recorded_checkpoint_no_file_belongs_to_a_model(tmp_path):
    whole, collapsed = (dataclasses.replace(each, checkpoint_sha256="") for each in (WHOLE, COLLAPSED))
    assert opened(tmp_path, whole, collapsed) is None


def test_an_absent_or_damaged_file_leaves_the_model_alone(tmp_path):
    assert opened(tmp_path, collapsed=None) is None
    (tmp_path / "office.collapsed.onnx").write_bytes(b"no model")
    assert opened(tmp_path, collapsed=None) is None


def test_a_model_in_8_bits_takes_the_collapsed_file_in_8_bits(tmp_path):
    names = [collapsed_beside(tmp_path / name, eight).name for name in ("a.onnx", "a.int8.onnx") for eight in (0, 1)]
    assert names == ["a.collapsed.onnx", "a.collapsed.int8.onnx"] * 2
    eight = dataclasses.replace(WHOLE, float_sha256="c" * 64)
    assert opened(tmp_path, eight) is None
    found = opened(tmp_path, eight, dataclasses.replace(COLLAPSED, float_sha256="d" * 64), "office.collapsed.int8.onnx")
    assert found is not None


def test_the_prior_of_the_model_holds_in_the_collapsed_file_too(tmp_path):
    rated = [dataclasses.replace(each, prior=(0.6, 0.3, 0.1)) for each in (WHOLE, COLLAPSED)]
    model = tmp_path / "office.onnx"
    model.write_bytes(tiny_model(rated[0]))
    (tmp_path / "office.collapsed.onnx").write_bytes(tiny_model(rated[1]))
    with open_session(model, provider="cpu", threads=1, prior="uniform") as session:
        found = open_collapsed(model, session, threads=1, prior="uniform")
    assert found is not None
    with found:
        assert found.artifact.prior == session.artifact.prior == (1 / 3, 1 / 3, 1 / 3)
