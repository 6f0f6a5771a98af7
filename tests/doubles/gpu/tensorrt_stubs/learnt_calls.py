"""The calls that the fake objects learn: each method of TensorRT in use, with the result that it returns later."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fakes import Fakes, boolean, bytes_at, each, int32, shape_at, text_at

from iern.export.engine.progress_monitor import make_monitor
from iern.runtime.backends.trt.plan import make_logger

PLAN, TIMES = b"plan\0" * 1000, b"new\0times!"
INPUT_SHAPE = (-1, 64, 64, 3)
TENSORS = (b"image", b"u")
READ, LINEAR = 1, 0
"""The mode and the memory format of a tensor."""
INT8, UINT8 = 2, 5
"""Number types. The first is that of plain bytes."""


def learn_builder(trt: ModuleType, fakes: Fakes) -> None:
    """Learn all that build_plan calls, with the results of a successful build."""
    fakes.results |= {"create_builder": fakes["builder"], "create_parser": fakes["parser"]}
    fakes.readers |= {"create_builder": each(int, int32)}
    logger = make_logger(trt, None)
    objects = {"builder": trt.Builder(logger)}
    objects |= learn_network(trt, fakes, objects["builder"], logger)
    objects |= learn_config(trt, fakes, objects["builder"])
    objects |= learn_plan(fakes, objects["builder"], objects["network"], objects["config"])
    fakes.learn_free(objects.clear)


def learn_runtime(trt: ModuleType, fakes: Fakes) -> None:
    """Learn all that running a plan calls."""
    fakes.results |= {"create_runtime": fakes["runtime"]}
    objects = {"runtime": trt.Runtime(make_logger(trt, None))}
    objects |= learn_engine(fakes, objects["runtime"])
    objects |= learn_context(fakes, objects["engine"])
    fakes.learn_free(objects.clear)


def learn_network(trt: ModuleType, fakes: Fakes, builder: Any, logger: Any) -> dict[str, Any]:
    """Learn the parser and the network that it fills."""
    learn = fakes.learn
    network = learn("builder.create_network", fakes["network"], lambda: builder.create_network(0), each(int32))
    parser = trt.OnnxParser(network, logger)
    learn("parser.parse", 1, lambda: parser.parse(b"graph"), bytes_at)
    learn("parser.num_errors", 1, lambda: parser.num_errors)
    error = learn("parser.get_error", fakes["parser_error"], lambda: parser.get_error(0))
    learn("parser_error.desc", b"no such operation", error.desc)
    fakes.results["parser.num_errors"] = 0
    learn("network.num_outputs", 3, lambda: network.num_outputs)
    tensor = learn("network.get_input", fakes["tensor"], lambda: network.get_input(0), each(int32))
    learn("tensor.name", b"image", lambda: tensor.name)
    learn("tensor.shape", INPUT_SHAPE, lambda: tensor.shape)
    learn("network.get_output", fakes["tensor"], lambda: network.get_output(0), each(int32))
    learn("tensor.formats", 0, lambda: setattr(tensor, "allowed_formats", 1), each(int32))
    return {"network": network, "parser": parser}


def learn_config(trt: ModuleType, fakes: Fakes, builder: Any) -> dict[str, Any]:
    """Learn the configuration, the profile of shapes and the timing cache."""
    learn = fakes.learn
    config = learn("builder.create_config", fakes["config"], builder.create_builder_config)
    workspace, detailed = trt.MemoryPoolType.WORKSPACE, trt.ProfilingVerbosity.DETAILED
    learn("config.workspace", 0, lambda: config.set_memory_pool_limit(workspace, 1), each(int32, int))
    learn("config.verbosity", 0, lambda: setattr(config, "profiling_verbosity", detailed), each(int32))
    learn("config.clear_flag", 0, lambda: config.clear_flag(trt.BuilderFlag.TF32), each(int32))
    monitor = make_monitor(trt, lambda *step: None, lambda: False)
    learn("config.monitor", 0, lambda: setattr(config, "progress_monitor", monitor), each(int))
    profile = learn("builder.create_profile", fakes["profile"], builder.create_optimization_profile)
    learn("profile.set_shape", 1, lambda: profile.set_shape("x", (1,), (1,), (1,)), each(text_at, int32, shape_at))
    learn("config.add_profile", 0, lambda: config.add_optimization_profile(profile), each(int))
    cache = learn("config.create_cache", fakes["cache"], lambda: config.create_timing_cache(b""), bytes_at)
    learn("config.set_cache", 1, lambda: config.set_timing_cache(cache, False), each(int, boolean))
    learn("config.get_cache", fakes["cache"], config.get_timing_cache)
    times = learn("cache.serialize", fakes["times"], cache.serialize)
    learn_memory(fakes, "times", times, TIMES)
    return {"config": config, "cache": cache, "times": times}


def learn_plan(fakes: Fakes, builder: Any, network: Any, config: Any) -> dict[str, Any]:
    """Learn the build itself, which returns bytes."""
    learn = fakes.learn
    plan = learn(
        "builder.build", fakes["plan"], lambda: builder.build_serialized_network(network, config), each(int, int)
    )
    learn_memory(fakes, "plan", plan, PLAN)
    return {"plan": plan}


def learn_memory(fakes: Fakes, name: str, memory: Any, content: bytes) -> None:
    """Learn the size and the type before the address, since reading the memory needs them."""
    fakes.learn(f"{name}.size", len(content), lambda: memory.nbytes)
    fakes.learn(f"{name}.type", INT8, lambda: memory.dtype)
    fakes.learn(f"{name}.data", content, lambda: bytes(memory))


def learn_engine(fakes: Fakes, runtime: Any) -> dict[str, Any]:
    """Learn a loaded plan and the description of its tensors."""
    learn = fakes.learn
    engine = learn("runtime.deserialize", fakes["engine"], lambda: runtime.deserialize_cuda_engine(PLAN), bytes_at)
    learn("engine.num_io_tensors", len(TENSORS), lambda: engine.num_io_tensors)
    learn("engine.get_tensor_name", TENSORS[0], lambda: engine.get_tensor_name(0), each(int32))
    learn("engine.get_tensor_mode", READ, lambda: engine.get_tensor_mode("image"), each(text_at))
    learn("engine.get_tensor_dtype", UINT8, lambda: engine.get_tensor_dtype("image"), each(text_at))
    learn("engine.get_tensor_format", LINEAR, lambda: engine.get_tensor_format("image"), each(text_at))
    learn("engine.get_tensor_shape", INPUT_SHAPE, lambda: engine.get_tensor_shape("image"), each(text_at))
    return {"engine": engine}


def learn_context(fakes: Fakes, engine: Any) -> dict[str, Any]:
    """Learn the execution context."""
    learn, face = fakes.learn, (1, *INPUT_SHAPE[1:])
    context = learn("engine.create_context", fakes["context"], engine.create_execution_context)
    learn("context.set_profile", 1, lambda: context.set_optimization_profile_async(0, 1), each(int32, int))
    learn("context.set_shape", 1, lambda: context.set_input_shape("image", face), each(text_at, shape_at))
    learn("context.get_tensor_shape", face, lambda: context.get_tensor_shape("image"), each(text_at))
    learn("context.engine", fakes["engine"], lambda: context.engine)  # infer_shapes reads the tensors of it
    learn("context.infer_shapes", 0, context.infer_shapes)
    learn("context.set_address", 1, lambda: context.set_tensor_address("image", 1), each(text_at, int))
    learn("context.execute", 1, lambda: context.execute_async_v3(1), each(int))
    return {"context": context}
