"""Variants: an implementation in a mode, in the faster memory format, with checked outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.results import Results
from benchmarks.common.turns import CALLS_PER_TURN, in_turns
from benchmarks.gpu_check.kernel import reason_of
from benchmarks.gpu_check.timing import PreparedCall, statistics

EAGER, GRAPH, COMPILED, COMPILED_GRAPH = "eager", "CUDA graph", "torch.compile", "torch.compile in CUDA graph"
MODES = {EAGER: (), GRAPH: (GRAPH,), COMPILED: (COMPILED,), COMPILED_GRAPH: (COMPILED, GRAPH)}
"""The modes and what each needs."""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
OUT_OF_MEMORY = "not enough memory on the GPU"

Check = Callable[[list[np.ndarray]], Results]
"""Outputs -> their errors; raises EngineError if they are too large."""


class Variants(NamedTuple):
    """The variants that can be timed, by `implementation, mode`, and what happened to the others."""

    calls: dict[str, Any]
    """Prepared calls whose outputs are right."""
    facts: dict[str, Results]
    """What is known of each of them, and `skipped` for those that do not fit into the GPU's memory."""
    failed: dict[str, str]
    """The reason of each failure."""


def prepare(
    implementations: Mapping[str, nn.Module],
    inputs: tuple[Tensor, ...],
    check: Check,
    skip: Mapping[str, str],
    device: str,
    modes: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Variants:
    """Every implementation in every mode that needs nothing in `skip`, GRAPH or COMPILED. Inputs are on the host.

    `modes` are those of an implementation that is not measured in all of them.
    Maps among the inputs (those of floating point) take the memory format of the implementation.
    """
    torch.compiler.reset()  # code compiled for other sizes counts towards a limit on recompilation
    found = Variants({}, {}, {})
    for name, module in implementations.items():
        try:
            captured = GRAPH not in skip and GRAPH in modes.get(name, MODES)
            layout, laid_out, module = _faster_layout(module, inputs, captured, device)
        except torch.OutOfMemoryError:
            found.facts[name] = {"skipped": OUT_OF_MEMORY}
            continue
        except Exception as error:  # from one implementation: the others are measured
            found.failed[name] = reason_of(error)
            continue
        compiled = torch.compile(module, fullgraph=True, dynamic=False)
        for mode, needs in MODES.items():
            key = f"{name}, {mode}"
            if mode not in modes.get(name, MODES) or any(need in skip for need in needs):
                continue  # the plan holds the reason
            try:
                call = PreparedCall(compiled if COMPILED in needs else module, laid_out, device, GRAPH in needs)
                errors = check(call.outputs())
            except torch.OutOfMemoryError:
                found.facts[key] = {"skipped": OUT_OF_MEMORY}
            except Exception as error:  # from one variant: the others are measured
                found.failed[key] = reason_of(error)
            else:
                taken = {"build_seconds": round(call.build_seconds, 3), "memory_bytes": call.memory_bytes}
                found.calls[key], found.facts[key] = call, {"runs_as": layout, **taken, **errors}
    return found


def with_samples(facts: Mapping[str, Results], samples: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Results]:
    """The facts of all variants; for those that were timed, also statistics and samples."""
    return {name: {**known, **_sampled(samples[name])} if name in samples else known for name, known in facts.items()}


def _sampled(milliseconds: Mapping[str, list[float]]) -> Results:
    figures = {clock: statistics(values) for clock, values in milliseconds.items()}
    return {"statistics": figures, "milliseconds": dict(milliseconds)}


def _faster_layout(
    module: nn.Module, inputs: tuple[Tensor, ...], captured: bool, device: str
) -> tuple[str, tuple[Tensor, ...], nn.Module]:
    """The memory format in which an implementation is faster here, by trial, with the inputs and the module in it."""
    copies = {key: copy.deepcopy(module).to(device).to(memory_format=layout) for key, layout in LAYOUTS.items()}
    laid_out = {
        key: tuple(t.contiguous(memory_format=layout) if t.is_floating_point() else t for t in inputs)
        for key, layout in LAYOUTS.items()
    }
    trial = in_turns(
        {key: PreparedCall(copies[key], laid_out[key], device, captured) for key in LAYOUTS}, 2 * CALLS_PER_TURN
    )
    best = min(trial, key=lambda key: float(np.median([sample.gpu for sample in trial[key]])))
    return best, laid_out[best], copies[best]
