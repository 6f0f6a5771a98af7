"""Where a model is served: `triton://HOST:PORT/MODEL`, in place of a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

SCHEME = "triton"
PORT = 8000
"""Triton's port for HTTP."""
SERVED_NAME = "iern"
"""The name under which `export/to_trt.py --triton` writes a model."""
EXPECTED = f"expected {SCHEME}:// followed by HOST:PORT/MODEL, such as localhost:{PORT}/{SERVED_NAME}"
"""Without a whole address, which a command's usage line would hide because it may hold a password."""


class ServerAddress(NamedTuple):
    """A model on a server."""

    host: str
    port: int
    model: str

    @property
    def place(self) -> str:
        """The server, as host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{SCHEME}://{self.place}/{self.model}"


def is_served(model: Path | str | bytes) -> bool:
    """Whether a model is the address of a served one, and neither a file nor its content."""
    return not isinstance(model, bytes) and _text(model).startswith(f"{SCHEME}:/")


def parse_server_address(model: Path | str) -> ServerAddress:
    """`triton://host:8000/iern` -> the address. The port is by default 8000, and the model `iern`.

    A Path keeps only one of the two slashes, which is understood too. Raises ValueError.
    """
    text = _text(model)
    found = re.fullmatch(rf"{SCHEME}:/+([^/?#@]+)(?:/([^/?#]*)/?)?", text)
    try:
        parts = urlsplit(f"//{found[1]}") if found else urlsplit("")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if found is None or not host or port == 0:
        raise ValueError(f"{EXPECTED}, found {text!r}")
    return ServerAddress(host, port or PORT, found[2] or SERVED_NAME)


def model_place(text: str) -> Path:
    """An argparse type, with `value_of`: a file, or the address of a served model, as a path. Raises ValueError."""
    if is_served(text):
        parse_server_address(text)
    return Path(text)


def _text(model: Path | str) -> str:
    return model.as_posix() if isinstance(model, Path) else model
