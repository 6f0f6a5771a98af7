"""Which file of a model runs on the CPU: the float32 file, or the 8-bit file beside it if that is faster here.

`export/to_int8.py` makes office.int8.onnx from office.onnx, if it is as accurate. The 8-bit file records the SHA-256 of
the float32 file, so a file that was made from another one is never taken in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from iern.runtime.backends.model_options import PRECISIONS
from iern.runtime.backends.providers import Model, import_onnxruntime, provider_order
from iern.runtime.backends.speed_record import key_of, read_speed_up, record_speed_up, speed_up
from iern.runtime.errors import ArtifactError, IernError, SessionError, message_of
from iern.runtime.session import Session
from iern.runtime.system.files import sha256
from iern.runtime.system.processor import Processor, processor
from iern.runtime.system.remedies import run_script

SUFFIX = ".int8.onnx"
LEAST_GAIN = 1.1
"""How many times as fast the 8-bit file must be. If it is hardly faster, the exact answers are worth more."""

OpenFile = Callable[[Model, str], Session]
"""Opens a file, or its content, with a provider or `auto`."""


def open_in_precision(
    model: Model, precision: str, provider: str, threads: int, open_file: OpenFile, here: Processor | None = None
) -> Session:
    """Open an .onnx file, or the 8-bit file beside it. `session.precision_note` says which one, and why.

    `fp32` opens the file as it is. `int8` opens the 8-bit file: that needs a CPU on which 8-bit sums do not saturate.
    `auto` takes the 8-bit file if it was made from `model`, runs on the CPU and is faster there: the first start times
    both, and the result is kept. `here` is the processor, by default this machine's.
    Raises ArtifactError or SessionError if `int8` cannot be, SessionError for an unknown precision, and what
    `open_file` raises.
    """
    if precision not in PRECISIONS:
        raise SessionError(f"unknown precision {precision!r}; expected {', '.join(PRECISIONS)}")
    here = here or processor()
    if precision == "int8":
        session = _open_int8(model, provider, open_file, here)
    elif precision == "auto":
        session = _open_faster(model, provider, threads, open_file, here)
    else:
        session = open_file(model, provider)
    if session.artifact.in_8_bits and session.provider == "cpu" and here.saturates:
        session.note = f"{session.note}; " if session.note else ""
        session.note += (
            f"{here} has no 8-bit dot products (VNNI), so sums in this 8-bit file may saturate and its answers may be "
            "wrong; use the float32 file that it was made from"
        )
    return session


def _open_int8(model: Model, provider: str, open_file: OpenFile, here: Processor) -> Session:
    """Open the 8-bit file, or raise the reason why that cannot be."""
    if here.saturates:
        raise SessionError(
            f"{here} has no 8-bit dot products (VNNI), so sums in 8 bits may saturate and the answers may be wrong; "
            "use the precision fp32 or auto"
        )
    if provider not in ("auto", "cpu"):
        raise SessionError(
            f"8 bits are for the CPU only, found the provider {provider}; use cpu, or the precision fp32"
        )
    if isinstance(model, bytes):
        return _open_if_int8(model, "expected the content of an 8-bit file, found that of a float32 file", open_file)
    model = Path(model)
    small = model.with_suffix(SUFFIX)
    if not small.is_file():
        return _open_if_int8(model, f"{small}: no such file; {_make(model)}", open_file)
    session = open_file(small, "cpu")
    if not _made_from(session, model):
        session.close()
        raise ArtifactError(f"{small}: was not made from {model}; {_make(model)}, or use the precision fp32")
    session.precision_note = "8 bits, as requested"
    return session


def _open_if_int8(model: Model, problem: str, open_file: OpenFile) -> Session:
    """Open a model without an 8-bit file beside it, if it is in 8 bits itself. Otherwise `problem` begins the error."""
    session = open_file(model, "cpu")
    if not session.artifact.in_8_bits:
        session.close()
        raise ArtifactError(f"{problem}, or use the precision fp32")
    session.precision_note = "8 bits, as this file is"
    return session


def _open_faster(model: Model, provider: str, threads: int, open_file: OpenFile, here: Processor) -> Session:
    """Open the faster one of the two files."""
    obstacle = _obstacle(model, provider, here)
    if obstacle or isinstance(model, bytes):
        session = open_file(model, provider)
        eight = session.artifact.in_8_bits
        session.precision_note = "8 bits, as this file is" if eight else f"not 8 bits: {obstacle}"
        return session
    model = Path(model)
    small = model.with_suffix(SUFFIX)
    try:
        key = key_of(here, import_onnxruntime().__version__, threads, sha256(model), sha256(small))
    except OSError as error:
        session = open_file(model, "cpu")
        session.precision_note = f"not 8 bits: {message_of(error)}"
        return session
    factor = read_speed_up(key)
    if factor is None:
        return _time_both(model, small, open_file, key)
    return _open_recorded(model, small, open_file, factor)


def _obstacle(model: Model, provider: str, here: Processor) -> str:
    """Why the 8-bit file cannot be faster, as far as can be known without opening it. Empty if it may be."""
    if isinstance(model, bytes):
        return "the model is in memory, without an 8-bit file beside it"
    small = Path(model).with_suffix(SUFFIX)
    if not (small.is_file() and Path(model).is_file()):
        return f"there is no {small.name} beside it"
    if provider_order(provider, import_onnxruntime().get_available_providers())[0] != "cpu":
        return "8 bits are for the CPU, and a GPU comes first"
    if here.dot_products is None:
        return f"whether {here} has 8-bit dot products is unknown"
    return "" if here.dot_products else f"{here} has no 8-bit dot products"


def _open_recorded(model: Path, small: Path, open_file: OpenFile, factor: float) -> Session:
    """Open the file that an earlier start found faster. It has compared the files, and their checksums are the same."""
    session = open_file(small if factor >= LEAST_GAIN else model, "cpu")
    session.precision_note = _reason(factor) + ", measured at an earlier start"
    return session


def _time_both(model: Path, small: Path, open_file: OpenFile, key: str) -> Session:
    """Open both files, time one face with them in turn, record the result, and close the slower one."""
    given = open_file(model, "cpu")
    try:
        eight = open_file(small, "cpu")
    except IernError as error:  # the float32 file still works
        given.precision_note = f"not 8 bits: {error}"
        return given
    if not _made_from(eight, model):
        eight.close()
        given.precision_note = f"not 8 bits: {small.name} was not made from this file; {_make(model)}"
        return given
    face = np.random.default_rng(0).integers(0, 256, (1, *given.artifact.input.shape), np.uint8)
    factor = speed_up(given, eight, face)
    record_speed_up(key, factor)
    faster, slower = (eight, given) if factor >= LEAST_GAIN else (given, eight)
    slower.close()
    faster.precision_note = _reason(factor) + ", measured at this start"
    return faster


def _reason(factor: float) -> str:
    """What is taken at this factor, in words."""
    taken = "8 bits" if factor >= LEAST_GAIN else "float32"
    return f"{taken}: one face in 8 bits is {factor:.2f} times as fast as in float32"


def _made_from(small: Session, model: Path) -> bool:
    return small.artifact.float_sha256 == sha256(model)


def _make(model: Path) -> str:
    """The command that makes the 8-bit file."""
    return f"make it: {run_script('export/to_int8.py')} {model} --data ROOT"
