"""What the machine offers besides libraries: NVIDIA's card and driver, the CUDA compiler, and a Jetson's power mode.

`root` is the folder that holds `dev`, `etc`, `proc`, `sys` and `usr`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Jetson:
    """NVIDIA's board, and its power mode."""

    release: str
    """The release of L4T, such as R36.4.3."""
    power: str
    """The name of the power mode; empty if nvpmodel does not report it."""


def has_nvidia(root: Path = Path("/")) -> bool:
    """Whether NVIDIA's display or compute card is on the PCI bus, with a driver or without."""
    devices = (root / "sys" / "bus" / "pci" / "devices").glob("*")
    return any(text_of(path / "vendor") == "0x10de" and text_of(path / "class").startswith("0x03") for path in devices)


def nvidia_driver(root: Path = Path("/")) -> str:
    """The version of NVIDIA's loaded driver, such as 560.35.03; empty if none is loaded, or its version is unknown."""
    found = re.search(r"Module .*?\s(\d+(?:\.\d+)+)\s", text_of(root / "proc" / "driver" / "nvidia" / "version"))
    return found[1] if found else ""


def jetson(root: Path = Path("/")) -> Jetson | None:
    """The board's release and power mode; None on any other machine."""
    text = text_of(root / "etc" / "nv_tegra_release")
    if not text:
        return None
    found = re.search(r"R(\d+) .*?REVISION: ([\d.]+)", text)
    mode = re.search(r"Power Mode: *(\S+)", output_of("nvpmodel", "-q"))
    return Jetson(f"R{found[1]}.{found[2]}" if found else text[:60], mode[1] if mode else "")


def nvcc(root: Path = Path("/")) -> tuple[str, str] | None:
    """Path and version of the CUDA compiler on the PATH or in CUDA's own folder; None if there is none."""
    path = shutil.which("nvcc") or shutil.which("nvcc", path=str(root / "usr" / "local" / "cuda" / "bin"))
    if path is None:
        return None
    found = re.search(r"release ([\d.]+)", output_of(path, "--version"))
    return path, found[1] if found else ""


def output_of(*command: str) -> str:
    """The standard output of a program; empty if the program is absent, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def text_of(path: Path) -> str:
    """The text of a small file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0")
    except OSError:
        return ""
