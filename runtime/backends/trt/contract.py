"""Checks that the inputs and outputs of an engine are those of its exported file."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, TAIL_INPUTS
from iern.runtime.backends.trt.engine_file import EngineFile
from iern.runtime.errors import EngineError


def check_engine(trt: ModuleType, engine: Any, file: EngineFile) -> None:
    """Raise EngineError if the engine's tensors, or the batch sizes that it takes, are not those of its manifest."""
    batches = file.manifest.batches
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {name: _describe(trt, engine, name, batches) for name in names}
    expected = _expected_tensors(engine, file, names)
    if found != expected:
        raise EngineError(f"it has {_list_tensors(found)}; its manifest promises {_list_tensors(expected)}")
    profiles = [
        [shape[0] for shape in engine.get_tensor_profile_shape(INPUT_NAME, index)]  # smallest, usual and largest
        for index in range(engine.num_optimization_profiles)
    ]
    if profiles != [[batch] * 3 for batch in batches]:
        taken = ", ".join(" to ".join(str(size) for size in sorted({low, high})) for low, _, high in profiles)
        raise EngineError(f"it takes batches of {taken}; its manifest promises {', '.join(map(str, batches))}")


def _expected_tensors(engine: Any, file: EngineFile, names: list[str]) -> dict[str, str]:
    artifact = file.artifact
    strata, expressions = len(artifact.strata), len(artifact.expressions)
    expected = {INPUT_NAME: _tensor_text("in", "UINT8", (-1, *artifact.input.shape))}
    if file.tail is None:
        shapes = ((-1, expressions), (-1, expressions), (-1, strata, expressions))
        outputs = zip(OUTPUT_NAMES, shapes, strict=True)
        expected.update({name: _tensor_text("out", "FLOAT", shape) for name, shape in outputs})
        return expected
    _, channels, sums = file.tail.weight.shape
    size = tuple(engine.get_tensor_shape(TAIL_INPUTS[0]))[2:] if TAIL_INPUTS[0] in names else ()  # any size
    kind = "HALF" if file.manifest.precision == "fp16" else "FLOAT"
    for name in TAIL_INPUTS[: 2 if sums > 1 else 1]:
        expected[name] = _tensor_text("out", kind, (-1, channels, *size))
    return expected


def _describe(trt: ModuleType, engine: Any, name: str, batches: tuple[int, ...]) -> str:
    mode = "in" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "out"
    first, *rest = engine.get_tensor_shape(name)
    if (first,) == batches:  # the number of faces of the only profile is fixed
        first = -1
    text = _tensor_text(mode, engine.get_tensor_dtype(name).name, (first, *rest))
    layout = engine.get_tensor_format(name)
    return text if layout == trt.TensorFormat.LINEAR else f"{text} in format {layout.name}"


def _tensor_text(mode: str, kind: str, shape: tuple[int, ...]) -> str:
    return f"{mode} ({', '.join('batch' if side < 0 else str(side) for side in shape)}) {kind}"


def _list_tensors(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} {tensors[name]}" for name in sorted(tensors)) or "nothing"
