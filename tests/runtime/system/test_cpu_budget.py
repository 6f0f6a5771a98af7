"""The number of threads follows the cores that the process may use, not those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.opencv import limit_opencv

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
CORES = 4
"""The cores of the affinity in the tests of quotas."""


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)), raising=False)


def system(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A file tree as the kernel shows it: this process's cgroups, and files below /sys/fs/cgroup."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(membership, encoding="utf-8")
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


V1 = "11:memory:/pod\n4:cpu,cpuacct:/pod\n1:name=systemd:/pod\n"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "900000 100000\n"}, CORES),
        ("0::/\n", {"cpu.max": "max 100000\n"}, CORES),
        ("0::/user/app\n", {"user/app/cpu.max": "200000 100000\n"}, 2),
        ("0::/user/app\n", {"user/app/cpu.max": "max 100000\n", "user/cpu.max": "100000 100000\n"}, 1),
        ("0::/user/app\n", {"user/other/cpu.max": "100000 100000\n"}, CORES),
        ("0::/docker/of/the/host\n", {"cpu.max": "100000 100000\n"}, 1),
        ("1:name=systemd:/\n0::/app\n", {"unified/app/cpu.max": "100000 100000\n"}, 1),
        (V1, {"cpu,cpuacct/pod/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/pod/cpu.cfs_quota_us": "250000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/pod/cpu.cfs_quota_us": "-1\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, CORES),
        (V1, {"memory/pod/cpu.cfs_quota_us": "100000\n", "memory/pod/cpu.cfs_period_us": "100000\n"}, CORES),
        ("0::/\n", {"cpu.max": "a surprise\n"}, CORES),
        ("0::/\n", {"cpu.max": ""}, CORES),
        ("0::/\n", {}, CORES),
        ("nothing like a cgroup\n", {}, CORES),
    ],
)
def test_the_quota_of_the_cgroup_rounded_up_limits_the_cores(tmp_path, four_cores, membership, files, cores):
    assert cpu_budget(system(tmp_path, membership, files)) == cores


def test_a_system_without_cgroups_has_the_cores_of_the_affinity(tmp_path, four_cores):
    assert cpu_budget(tmp_path) == CORES


def test_a_system_without_affinity_has_the_cores_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cpu_budget(tmp_path) == os.cpu_count()


def in_new_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may use only one of the cores."""
    pinned = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", pinned, *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8")


@needs_affinity
def test_a_process_on_one_core_has_a_budget_of_one_for_opencv_too():
    code = """
        import cv2
        from iern.runtime.system.cpu_budget import cpu_budget
        from iern.runtime.system.opencv import limit_opencv
        print(cpu_budget(), limit_opencv(), cv2.getNumThreads())
    """
    assert in_new_process(code).stdout.split() == ["1", "1", "1"]


@needs_affinity
def test_on_one_core_the_model_starts_no_threads_and_nothing_fills_the_log(tmp_path):
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    code = """
        import os, sys
        import numpy as np
        import onnxruntime  # has a thread of its own
        from iern.runtime.faces.detector import FaceDetector
        from iern.runtime.backends.onnx import open_session
        from iern.runtime.system.opencv import limit_opencv
        limit_opencv()
        detector = FaceDetector()
        detector(np.zeros((48, 64, 3), np.uint8))
        threads = len(os.listdir("/proc/self/task"))
        with open_session(sys.argv[1]) as session:
            session(np.zeros((20, 32, 32, 3), np.uint8))
            print(len(os.listdir("/proc/self/task")) - threads)
    """
    done = in_new_process(code, str(tmp_path / "model.onnx"))
    assert done.stderr == ""
    assert done.stdout.split() == ["0"]


def test_opencv_takes_the_number_it_is_given():
    import cv2

    before = cv2.getNumThreads()
    try:
        assert limit_opencv(1) == 1
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
