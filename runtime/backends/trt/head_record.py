"""The faster head of a TensorRT engine on this machine, as measured. The exporter uses it as the default.

`python -m benchmarks.gpu_check` writes it and `export/to_trt.py` reads it. The file is `iern/heads.json` in the user's
cache folder: {"<GPU>, TensorRT <version>": "native" or "kernel"}.
"""

from __future__ import annotations

import json
from pathlib import Path

from iern.runtime.backends.trt.engine_file import HEADS
from iern.runtime.system.files import cache_folder, write_text

DEFAULT_HEAD = "native"
"""The head without a measurement. It needs only TensorRT."""


def record_path() -> Path:
    """Return the path of the file in the user's cache folder."""
    return cache_folder() / "heads.json"


def read_head(gpu_name: str, tensorrt: str) -> str:
    """Return the head that was faster with this GPU and version of TensorRT, or `native` if it was not measured."""
    found = _read().get(_key(gpu_name, tensorrt))
    return found if found in HEADS else DEFAULT_HEAD


def record_head(gpu_name: str, tensorrt: str, head: str) -> Path:
    """Write the faster head to the file -> its path. The content of a damaged file is lost. Raises OutputError."""
    if head not in HEADS:
        raise ValueError(f"head is {head!r}; expected one of {', '.join(HEADS)}")
    path = record_path()
    write_text(path, json.dumps({**_read(), _key(gpu_name, tensorrt): head}, indent=1, sort_keys=True) + "\n")
    return path


def _key(gpu_name: str, tensorrt: str) -> str:
    return f"{gpu_name}, TensorRT {tensorrt}"


def _read() -> dict[str, object]:
    try:
        found = json.loads(record_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, unreadable, or damaged
        return {}
    return found if isinstance(found, dict) else {}
