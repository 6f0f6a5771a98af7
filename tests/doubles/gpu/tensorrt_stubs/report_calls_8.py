"""Program: `report_calls_8.py FOLDER`: as report_calls.py, for what is done in another way with TensorRT 8.

The network of the stub has the layers of LAYERS, whatever the parser is given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fakes import Dims8, Fakes, boolean, bytes_at, each, int32, shape_8_in, text_at
from learnt_calls import INPUT_SHAPE, PLAN, learn_memory
from onnx import TensorProto, helper

from iern.export.engine.plan_builder import Backend, BuildOptions, build_plan, load_backend
from iern.runtime.backends.trt.plan import make_context, make_logger, scratch_size

FLOAT, HALF, INT32 = 0, 1, 3
CONVOLUTION, SHUFFLE, CONSTANT, CAST, SHAPE, REDUCE = "CONVOLUTION", "SHUFFLE", "CONSTANT", "CAST", "SHAPE", "REDUCE"
LAYERS = [
    # kind, what it reads, what it gives, the type that TensorRT has for that before anyone asks for another
    (CAST, "image", "x", FLOAT),
    (CONSTANT, None, "weight", FLOAT),
    (CONVOLUTION, "x", "c", FLOAT),
    (SHUFFLE, "c", "(Unnamed Layer* 3) [Shuffle]_output", FLOAT),
    (SHAPE, "c", "(Unnamed Layer* 4) [Shape]_output", INT32),
    (SHUFFLE, "(Unnamed Layer* 4) [Shape]_output", "(Unnamed Layer* 5) [Shuffle]_output", INT32),
    (CAST, "(Unnamed Layer* 3) [Shuffle]_output", "f", FLOAT),
    (REDUCE, "f", "u", FLOAT),
]
ON_STACK = 5
"""Where the arguments on the stack begin, after the registers without that of `this`."""
ADDRESS, STREAM, SCRATCH = 0x7F0012345678, 0x7F0087654321, 4096


def graph(half: bool = True) -> bytes:
    """A graph whose values are those of LAYERS: from bytes to half precision, or single, and to a single mean."""
    inner = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=inner),
        helper.make_node("Conv", ["x", "weight"], ["c"]),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["u"], keepdims=0, noop_with_empty_axes=0),
    ]
    weight = helper.make_tensor("weight", inner, (2, 3, 1, 1), [0.5] * 6)
    axes = helper.make_tensor("axes", TensorProto.INT64, (2,), [2, 3])
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ("N", 3, 4, 4))],
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, ("N", 2))],
        [weight, axes],
    )
    model = helper.make_model(made, opset_imports=[helper.make_operatorsetid("", 18)])
    return bytes(model.SerializeToString())


def main(folder: Path) -> None:
    sys.modules |= {"tensorrt": None, "tensorrt_libs": None}
    name, trt = load_backend("tensorrt")
    fakes = Fakes("libnvinfer.so.8", Dims8)
    learn(trt, fakes)
    report: dict[str, Any] = {"backend": name, "version": trt.__version__, "graph": graph().decode("latin-1")}
    report["flags"] = {key: int(value) for key, value in trt.BuilderFlag.__members__.items()}
    report["profile_sharing"] = int(trt.PreviewFeature.PROFILE_SHARING_0806)
    for half in (True, False):
        fakes.forget_calls()
        with fakes.checked():
            plan = build_plan(graph(half), Backend("tensorrt", trt), BuildOptions(batches=(2, 5)))
        report["half" if half else "single"] = {
            "calls": list(fakes.calls),
            "arrived": dict(fakes.arrived),
            "plan": plan == PLAN,
        }
    fakes.forget_calls()
    engine = trt.Runtime(make_logger(trt, None)).deserialize_cuda_engine(PLAN)
    with fakes.checked():
        size = scratch_size(trt, engine)
        context = make_context(trt, "tensorrt", engine, 3, ADDRESS, STREAM)
    report["context"] = {"made": context is not None, "scratch": size, "arrived": dict(fakes.arrived)}
    sys.stdout.write(json.dumps(report) + "\n")


def learn(trt: ModuleType, fakes: Fakes) -> None:
    """Learn all that is called, with the results of a successful build."""
    fakes.results |= {name: fakes[name.split("_")[1]] for name in ("create_builder", "create_runtime", "create_parser")}
    fakes.readers |= {"create_builder": each(int, int32)}
    logger = make_logger(trt, None)
    objects = {"builder": trt.Builder(logger), "runtime": trt.Runtime(logger)}
    objects |= learn_network(trt, fakes, objects["builder"], logger)
    learn_layer(trt, fakes, objects["network"])
    objects |= learn_config(trt, fakes, objects["builder"])
    objects |= learn_plan(fakes, objects["builder"], objects["network"], objects["config"])
    objects |= learn_context(fakes, objects["runtime"])
    fakes.learn_free(objects.clear)


def learn_network(trt: ModuleType, fakes: Fakes, builder: Any, logger: Any) -> dict[str, Any]:
    """Learn the parser, the network, its input and its output."""
    once = fakes.learn
    network = once("builder.create_network", fakes["network"], lambda: builder.create_network(0), each(int32))
    parser = trt.OnnxParser(network, logger)
    once("parser.parse", 1, lambda: parser.parse(b"graph"), bytes_at)
    once("parser.num_errors", 0, lambda: parser.num_errors)
    once("network.num_outputs", 1, lambda: network.num_outputs)
    tensor = once("network.get_input", fakes["tensor"], lambda: network.get_input(0), each(int32))
    once("tensor.name", b"image", lambda: tensor.name)
    once("tensor.shape", INPUT_SHAPE, lambda: tensor.shape)
    once("tensor.formats", 0, lambda: setattr(tensor, "allowed_formats", 1), each(int32))
    output = once("network.get_output", fakes["output"], lambda: network.get_output(0), each(int32))
    once("output.name", b"u", lambda: output.name)
    once("output.formats", 0, lambda: setattr(output, "allowed_formats", 1), each(int32))
    once("output.set_type", 0, lambda: setattr(output, "dtype", trt.DataType.FLOAT), each(int32))
    once("network.num_layers", len(LAYERS), lambda: network.num_layers)
    return {"network": network, "parser": parser}


def learn_plan(fakes: Fakes, builder: Any, network: Any, config: Any) -> dict[str, Any]:
    """Learn the build, which returns bytes."""
    plan = fakes.learn("builder.build", fakes["plan"], lambda: builder.build_serialized_network(network, config))
    learn_memory(fakes, "plan", plan, PLAN)
    return {"plan": plan}


def learn_context(fakes: Fakes, runtime: Any) -> dict[str, Any]:
    """Learn a loaded plan and a context."""
    once = fakes.learn
    engine = once("runtime.deserialize", fakes["engine"], lambda: runtime.deserialize_cuda_engine(PLAN), bytes_at)
    once("engine.scratch", SCRATCH, lambda: engine.device_memory_size)
    make = engine.create_execution_context_without_device_memory
    context = once("engine.create_context", fakes["context"], make)
    once("context.memory", 0, lambda: setattr(context, "device_memory", 1), each(int))
    once("context.profile", 1, lambda: context.set_optimization_profile_async(0, 1), each(int32, int))
    return {"engine": engine, "context": context}


def learn_layer(trt: ModuleType, fakes: Fakes, network: Any) -> None:
    """Learn a layer and the two tensors at it. What they give is that of the layer that was asked for last."""
    names = [name.encode() for _, read, given, _ in LAYERS for name in (read or "", given)]
    kinds = [int(trt.LayerType.__members__[kind]) for kind, *_ in LAYERS]

    def at() -> int:
        return fakes.arrived["network.get_layer"][-1][0] if fakes.arrived["network.get_layer"] else 0

    once = fakes.learn
    layer = once("network.get_layer", fakes["layer"], lambda: network.get_layer(0), each(int32))
    once("layer.type", lambda: kinds[at()], lambda: layer.type)
    once("layer.num_outputs", 1, lambda: layer.num_outputs)
    once("layer.num_inputs", 1, lambda: layer.num_inputs)
    read = once("layer.get_input", fakes["read"], lambda: layer.get_input(0), each(int32))
    given = once("layer.get_output", fakes["given"], lambda: layer.get_output(0), each(int32))
    once("read.name", lambda: names[2 * at()], lambda: read.name)
    once("given.name", lambda: names[2 * at() + 1], lambda: given.name)
    once("given.get_type", lambda: LAYERS[at()][3], lambda: given.dtype)
    asked = each(int32, int32)
    float_ = trt.DataType.FLOAT
    once("layer.precision", 0, lambda: setattr(layer, "precision", float_), lambda *given: [at(), *asked(*given[:1])])
    once(
        "layer.set_output_type", 0, lambda: layer.set_output_type(0, float_), lambda *given: [at(), *asked(*given[:2])]
    )


def learn_config(trt: ModuleType, fakes: Fakes, builder: Any) -> dict[str, Any]:
    once = fakes.learn
    config = once("builder.create_config", fakes["config"], builder.create_builder_config)
    workspace, detailed = trt.MemoryPoolType.WORKSPACE, trt.ProfilingVerbosity.DETAILED
    sharing = trt.PreviewFeature.PROFILE_SHARING_0806
    once("config.workspace", 0, lambda: config.set_memory_pool_limit(workspace, 1), each(int32, int))
    once("config.verbosity", 0, lambda: setattr(config, "profiling_verbosity", detailed), each(int32))
    once("config.clear_flag", 0, lambda: config.clear_flag(trt.BuilderFlag.TF32), each(int32))
    once("config.set_flag", 0, lambda: config.set_flag(trt.BuilderFlag.DEBUG), each(int32))
    once("config.preview", 0, lambda: config.set_preview_feature(sharing, True), each(int32, boolean))
    profile = once("builder.create_profile", fakes["profile"], builder.create_optimization_profile)
    shapes = lambda *given: [text_at(given[0]), int32(given[1]), shape_8_in(given[ON_STACK:])]  # noqa: E731
    once("profile.set_shape", 1, lambda: profile.set_shape("x", (1,), (1,), (1,)), shapes)
    once("config.add_profile", 0, lambda: config.add_optimization_profile(profile), each(int))
    return {"config": config}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
