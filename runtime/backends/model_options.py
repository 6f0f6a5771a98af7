"""The options of a command for its model, which mean the same in the loop and in the service. Imports no OpenCV."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from iern.runtime.backends.providers import PROVIDERS
from iern.runtime.backends.server_address import model_place
from iern.runtime.bundled import MODEL
from iern.runtime.system.arguments import prior, value_of

PRECISIONS = ("auto", "fp32", "int8")


def add_model_options(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add --model, --prior, --provider, --precision and --strict -> the function that adds more to their group."""
    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        type=value_of(model_place),
        default=MODEL,
        metavar="FILE",
        help="exported .onnx or .engine, or triton://HOST:PORT/MODEL for one on a Triton server, see docs/triton.md "
        "(default: the bundled one)",
    )
    add(
        "--prior",
        type=value_of(prior),
        metavar="RATES",
        help="how frequent the expressions are at this place: uniform, or rates as neutral=0.6,happiness=0.2, where "
        "the others share the rest; the threshold stays (default: the rates that the model assumes)",
    )
    add(
        "--provider",
        choices=("auto", *PROVIDERS),
        default="auto",
        help="where the model runs (default: auto, which is CUDA if onnxruntime has it, otherwise the CPU); a provider "
        "must run the whole model, otherwise the next one is used and the reason is printed; tensorrt builds its "
        "engines at the first start, which takes minutes, and keeps them",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="on the CPU: int8 is the 8-bit file beside the model (my.int8.onnx for my.onnx, made from it by "
        "export/to_int8.py), fp32 the model as it is, and auto the faster one, which the first start times for "
        "about a second; python -m iern.runtime.doctor prints which one it is and why (default: auto)",
    )
    add("--strict", action="store_true", help="end with an error if the provider cannot run the whole model")
    return add
