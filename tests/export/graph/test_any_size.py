"""The bundled face detector is YuNet as published, except that the number and the size of its pictures are free."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from iern.export.graph.any_size import main, weights_digest, with_any_size
from iern.runtime.bundled import YUNET

PUBLISHED_WEIGHTS = "c35cfb47290307108c932e0e2c649835ca7d91802ee7ebdfe2b67da9d36ca6bf"
"""Of yunet_s_640_640.onnx, whose SHA-256 is 8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4."""


@pytest.fixture(scope="module")
def fixed() -> onnx.ModelProto:
    """The network as it was published: for one picture of 640 x 640 pixels."""
    model = onnx.load(YUNET)
    for tensor in (*model.graph.input, *model.graph.output):
        stride = int(tensor.name.rpartition("_")[2]) if "_" in tensor.name else 1
        sizes = {"batch": 1, "height": 640, "width": 640}
        for axis in tensor.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = sizes.get(axis.dim_param, (640 // stride) ** 2)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1:
            shape = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, *shape[1:]]), tensor.name))
    return model


def test_the_bundled_detector_has_the_published_weights():
    assert weights_digest(onnx.load(YUNET)) == PUBLISHED_WEIGHTS


def test_pictures_of_any_size_give_what_the_fixed_network_gives(fixed, tmp_path):
    onnx.save(fixed, tmp_path / "fixed.onnx")
    assert main([str(tmp_path / "fixed.onnx"), str(tmp_path / "free.onnx")]) == 0
    assert onnx.load(tmp_path / "free.onnx") == onnx.load(YUNET)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 640, 640)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for model in (fixed, with_any_size(fixed))
    )
    found = after.run(None, {"input": pictures})
    for index in range(2):
        expected = before.run(None, {"input": pictures[index : index + 1]})
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one[0], other[index], atol=1e-4)
