"""YuNet as published takes one picture of 640 x 640 pixels. This lets it take any number of any size.

The bundled `runtime/models/yunet.onnx` was made with

    python -m iern.export.graph.any_size yunet_s_640_640.onnx runtime/models/yunet.onnx

The operations and the weights stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import command

import numpy as np
import onnx
from onnx import numpy_helper

from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import atomic_path


def with_any_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a fully convolutional network whose number and size of pictures are free.

    Its only fixed shapes are those of its input, its outputs, and the reshapes of its outputs to one row a cell. There,
    a size of 0 stands for the number of pictures.
    """
    free = onnx.ModelProto()
    free.CopyFrom(model)
    del free.graph.value_info[:]  # the shapes in between, which onnxruntime infers
    _name_sizes(free.graph.input[0], ("batch", "", "height", "width"))
    for output in free.graph.output:
        _name_sizes(output, ("batch", f"cells_{output.name.rpartition('_')[2]}", ""))
    shapes = {node.input[1] for node in free.graph.node if node.op_type == "Reshape"}
    for tensor in free.graph.initializer:
        if tensor.name in shapes:
            shape = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.array([0, *shape[1:]], shape.dtype), tensor.name))
    onnx.checker.check_model(free)
    return free


def weights_digest(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of the convolutions' weights, in the order of the file."""
    used = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        if tensor.name in used:
            digest.update(tensor.name.encode() + numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def _name_sizes(tensor: onnx.ValueInfoProto, names: Sequence[str]) -> None:
    """Give the named axes of a tensor these names instead of sizes. An axis with an empty name keeps its size."""
    for axis, name in zip(tensor.type.tensor_type.shape.dim, names, strict=True):
        if name:
            axis.dim_param = name


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = Parser(description="Let YuNet take pictures of any size.")
    parser.add_argument("model", type=Path, help="YuNet as published")
    parser.add_argument("output", type=Path, help="the file to write")
    options: argparse.Namespace = parser.parse_args(argv)
    refuse_conflicts({"the model": options.model}, {"the output": options.output})
    content = with_any_size(onnx.load(options.model)).SerializeToString()
    with atomic_path(options.output) as path:
        path.write_bytes(content)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    sys.exit(main())
