"""A real ONNX file that keeps the contract, small enough to build in a test. Its outputs depend on the mean colour."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.imaging.preprocess import InputSpec

EXPRESSIONS = ("neutral", "happy", "sad")
STRATA = ("studio", "street")


def tiny_artifact(size: int = 32, temperature: float = 1.0) -> Artifact:
    """The description in the file of `tiny_model`."""
    return Artifact(
        expressions=EXPRESSIONS,
        strata=STRATA,
        input=InputSpec(size=size),
        preset="tiny",
        temperature=temperature,
        data="nothing: weights drawn from a fixed seed",
    )


def tiny_model(artifact: Artifact | None = None, seed: int = 0, with_metadata: bool = True) -> bytes:
    """The file's bytes: image (batch, S, S, 3) uint8 BGR -> mean colour -> one affine map per stratum -> outputs."""
    artifact = artifact or tiny_artifact()
    e, n, size = len(artifact.expressions), len(artifact.strata), artifact.input.size
    random = np.random.default_rng(seed)
    constants = {
        "scale": np.float32(1 / 255),
        "weight": random.normal(0, 4, (3, n * e)).astype(np.float32),
        "bias": random.normal(0, 1, n * e).astype(np.float32),
        "by_stratum": np.array([-1, n, e], np.int64),
        "temperature": np.float32(artifact.temperature),
    }
    image, (probabilities, logits, stratum_logits) = INPUT_NAME, OUTPUT_NAMES
    nodes = [
        helper.make_node("Cast", [image], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("Gemm", ["colour", "weight", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "by_stratum"], [stratum_logits]),
        helper.make_node("ReduceMean", [stratum_logits], [logits], axes=[1], keepdims=0),
        helper.make_node("Div", [logits, "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], [probabilities], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(image, TensorProto.UINT8, ["batch", size, size, 3])],
        [
            helper.make_tensor_value_info(probabilities, TensorProto.FLOAT, ["batch", e]),
            helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", e]),
            helper.make_tensor_value_info(stratum_logits, TensorProto.FLOAT, ["batch", n, e]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if with_metadata:
        helper.set_model_props(model, artifact.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
