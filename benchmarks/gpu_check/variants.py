"""Forms of a computation made ready in every mode: in the faster memory format, and checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.turns import TURN, in_turns
from benchmarks.gpu_check.kernel import reason_of
from benchmarks.gpu_check.timing import Prepared, statistics

EAGER, GRAPH, COMPILED, COMPILED_GRAPH = "eager", "CUDA graph", "torch.compile", "torch.compile in CUDA graph"
MODES = {EAGER: (), GRAPH: (GRAPH,), COMPILED: (COMPILED,), COMPILED_GRAPH: (COMPILED, GRAPH)}
"""Mode -> what it needs."""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FULL = "not enough memory on the GPU"

Record = dict[str, Any]
"""Plain types."""
Check = Callable[[list[np.ndarray]], Record]
"""An answer -> its errors; raises EngineError where it is wrong."""


class Variants(NamedTuple):
    """What can be timed, by `form, mode`, and what became of the rest."""

    calls: dict[str, Any]
    """Ready and right."""
    facts: dict[str, Record]
    """Of each of them, and `skipped` of those that do not fit the GPU."""
    failed: dict[str, str]


def prepare(
    forms: Mapping[str, nn.Module], inputs: tuple[Tensor, ...], check: Check, skip: Mapping[str, str], device: str
) -> Variants:
    """Every form in every mode that does not need what `skip` names, GRAPH or COMPILED; inputs come from the host.

    Maps among the inputs (those of floating point) take the memory format of the form.
    """
    torch.compiler.reset()  # what was compiled for other sizes counts towards a limit, then serves no longer
    found = Variants({}, {}, {})
    for name, form in forms.items():
        try:
            layout, laid_out, form = _faster_layout(form, inputs, GRAPH not in skip, device)
        except torch.OutOfMemoryError:
            found.facts[name] = {"skipped": FULL}
            continue
        except Exception as error:  # of one form: the others are measured
            found.failed[name] = reason_of(error)
            continue
        compiled = torch.compile(form, fullgraph=True, dynamic=False)
        for mode, needs in MODES.items():
            key = f"{name}, {mode}"
            if any(need in skip for need in needs):
                continue  # the plan says why
            try:
                call = Prepared(compiled if COMPILED in needs else form, laid_out, device, GRAPH in needs)
                errors = check(call.answer())
            except torch.OutOfMemoryError:
                found.facts[key] = {"skipped": FULL}
            except Exception as error:  # of one variant: the others are measured
                found.failed[key] = reason_of(error)
            else:
                seconds = round(call.build_seconds, 3)
                own = {"build_seconds": seconds, "memory_bytes": call.memory_bytes, **errors}
                found.calls[key], found.facts[key] = call, {"runs_as": layout, **own}
    return found


def with_samples(facts: Mapping[str, Record], samples: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Record]:
    """The variants, those that were timed with their figures and samples."""
    return {name: {**own, **_sampled(samples[name])} if name in samples else own for name, own in facts.items()}


def _sampled(milliseconds: Mapping[str, list[float]]) -> Record:
    figures = {clock: statistics(values) for clock, values in milliseconds.items()}
    return {"statistics": figures, "milliseconds": dict(milliseconds)}


def _faster_layout(
    form: nn.Module, inputs: tuple[Tensor, ...], captured: bool, device: str
) -> tuple[str, tuple[Tensor, ...], nn.Module]:
    """The memory format in which a form is faster here, by trial; then the inputs and the form in it."""
    forms = {key: copy.deepcopy(form).to(device).to(memory_format=layout) for key, layout in LAYOUTS.items()}
    laid_out = {
        key: tuple(t.contiguous(memory_format=layout) if t.is_floating_point() else t for t in inputs)
        for key, layout in LAYOUTS.items()
    }
    trial = in_turns({key: Prepared(forms[key], laid_out[key], device, captured) for key in LAYOUTS}, 2 * TURN)
    best = min(trial, key=lambda key: float(np.median([sample.gpu for sample in trial[key]])))
    return best, laid_out[best], forms[best]
