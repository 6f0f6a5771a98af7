"""What the machine offers besides libraries: cameras, the CUDA compiler, and a Jetson's power mode.

`root` is the folder that holds `dev`, `etc`, `proc`, `sys` and `usr`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Camera:
    """A video device that gives pictures."""

    device: str
    """/dev/video0."""
    name: str
    """As the driver calls it."""
    present: bool
    """Whether the device file is there: a container may see the kernel's list alone."""
    allowed: bool
    """Whether this user may open it."""


@dataclass(frozen=True)
class Jetson:
    """NVIDIA's board, and how much power it may draw."""

    release: str
    """L4T, such as R36.4.3."""
    power: str
    """The power mode's name, empty where nvpmodel does not tell."""


def cameras(root: Path = Path("/")) -> list[Camera]:
    """The video devices that the kernel or /dev lists, without the second node in which a webcam gives metadata."""
    listed = root / "sys" / "class" / "video4linux"
    names = {path.name for folder in (listed, root / "dev") for path in folder.glob("video*")}
    found = []
    for name in sorted(names, key=lambda name: (len(name), name)):
        if _read(listed / name / "index") not in ("", "0"):
            continue
        path = root / "dev" / name
        allowed = os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)
        found.append(Camera(f"/dev/{name}", _read(listed / name / "name"), path.exists(), allowed))
    return found


def has_nvidia(root: Path = Path("/")) -> bool:
    """Whether a display or compute card of NVIDIA's is on the PCI bus, with a driver or without."""
    devices = (root / "sys" / "bus" / "pci" / "devices").glob("*")
    return any(_read(path / "vendor") == "0x10de" and _read(path / "class").startswith("0x03") for path in devices)


def nvidia_driver(root: Path = Path("/")) -> str:
    """The version of NVIDIA's loaded driver, such as 560.35.03; empty where there is none, or it does not tell."""
    found = re.search(r"Module .*?\s(\d+(?:\.\d+)+)\s", _read(root / "proc" / "driver" / "nvidia" / "version"))
    return found[1] if found else ""


def jetson(root: Path = Path("/")) -> Jetson | None:
    """The board's release and power mode; None on any other machine."""
    text = _read(root / "etc" / "nv_tegra_release")
    if not text:
        return None
    found = re.search(r"R(\d+) .*?REVISION: ([\d.]+)", text)
    mode = re.search(r"Power Mode: *(\S+)", said_by("nvpmodel", "-q"))
    return Jetson(f"R{found[1]}.{found[2]}" if found else text[:60], mode[1] if mode else "")


def nvcc(root: Path = Path("/")) -> tuple[str, str] | None:
    """Path and version of the CUDA compiler on the PATH or in CUDA's own folder; None where there is none."""
    path = shutil.which("nvcc") or shutil.which("nvcc", path=str(root / "usr" / "local" / "cuda" / "bin"))
    if path is None:
        return None
    found = re.search(r"release ([\d.]+)", said_by(path, "--version"))
    return path, found[1] if found else ""


def said_by(*command: str) -> str:
    """What a program prints, empty where it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _read(path: Path) -> str:
    """The text of a small file, empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0")
    except OSError:
        return ""
