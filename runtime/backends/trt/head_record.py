"""Which head of a TensorRT engine was found faster on this machine, remembered for the exporter's default.

`python -m benchmarks.gpu_check` measures it and `export/to_trt.py` reads it. The file is `iern/heads.json` in the
user's cache folder: {"<GPU>, TensorRT <version>": "native" or "kernel"}.
"""

from __future__ import annotations

import json
from pathlib import Path

from iern.runtime.backends.trt.engine_file import HEADS
from iern.runtime.system.files import cache_folder, write_text

UNKNOWN = "native"
"""What nobody measured: it needs nothing but TensorRT."""


def record_path() -> Path:
    """The file, in the user's cache folder."""
    return cache_folder() / "heads.json"


def read_head(gpu_name: str, tensorrt: str) -> str:
    """`native` or `kernel`, whichever was faster with that GPU and version of TensorRT; `native` where none knows."""
    found = _recorded().get(_key(gpu_name, tensorrt))
    return found if found in HEADS else UNKNOWN


def record_head(gpu_name: str, tensorrt: str, head: str) -> Path:
    """Remember it, whole or not at all -> the file. What a damaged file held is lost. Raises OSError."""
    if head not in HEADS:
        raise ValueError(f"head is {head!r}; expected one of {', '.join(HEADS)}")
    path = record_path()
    write_text(path, json.dumps({**_recorded(), _key(gpu_name, tensorrt): head}, indent=1, sort_keys=True) + "\n")
    return path


def _key(gpu_name: str, tensorrt: str) -> str:
    return f"{gpu_name}, TensorRT {tensorrt}"


def _recorded() -> dict[str, object]:
    try:
        found = json.loads(record_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, unreadable, or damaged
        return {}
    return found if isinstance(found, dict) else {}
