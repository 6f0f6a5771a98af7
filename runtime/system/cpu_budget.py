"""How many cores this process may use: by its affinity and its container's quota, not by the machine's core count.

Libraries that count the machine's cores start too many threads in a container: they wait for each other, and
onnxruntime also logs one warning a thread when it cannot pin it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cpu_budget(root: Path = Path("/")) -> int:
    """Cores that this process can keep busy: its affinity, limited by the cgroup quota rounded up. At least 1.

    `root` is the folder that holds `proc` and `sys`. Without affinity on this platform, the machine's cores count.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Every quota in cores that limits this process, from its own cgroup up to the topmost visible one."""
    mount = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2, mounted alone or, together with version 1, under `unified`
            for group in _upwards([mount, mount / "unified"], path):
                yield from _ratio(_read(group / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for group in _upwards([mount / "cpu", mount / controllers], path):
                yield from _ratio([_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")])


def _upwards(mounts: list[Path], path: str) -> Iterator[Path]:
    """The group's folder and its parents in each mount.

    Inside a container `path` may name a group of the host that is not mounted here. The container's own group is then
    the top of the mount, which is among the parents.
    """
    group = PurePosixPath(path.lstrip("/"))
    for mount in mounts:
        yield from (mount / folder for folder in (group, *group.parents))


def _ratio(quota_and_period: list[str]) -> Iterator[float]:
    """Quota over period, if there is a quota. Without one, version 2 has `max` and version 1 has -1."""
    try:
        quota, period = (int(text) for text in quota_and_period)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str:
    """The text of a kernel file. Empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
