"""The keys of the window, for its own list of keys and for --help. It imports no OpenCV."""

from __future__ import annotations

KEYS = (
    ("h, ?", "these keys"),
    ("p", "pause or continue; a camera runs on meanwhile"),
    ("f", "full screen on or off"),
    ("m", "mirror the picture in this window, or not"),
    ("s", "save the picture as PNG, with its overlay"),
    ("r", "start or stop a recording"),
    ("o", "overlay on or off"),
    ("c", "predictions under each context on or off"),
    ("q, Esc", "quit; Esc first leaves full screen"),
)
"""Key, and what it does. `app/window.py` does it."""


def key_lines() -> list[str]:
    """The keys for the window, one a line."""
    return [f"{key}  {effect}" for key, effect in KEYS]


def key_table() -> str:
    """The keys for --help, in two columns."""
    return "\n".join(f"  {key:<8}{effect}" for key, effect in KEYS)
