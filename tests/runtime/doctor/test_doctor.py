"""The doctor reports what is broken and how to fix it, and no broken library can crash it.

The broken libraries here are real: packages that fail to import, abort or hang, put on the path before the installed
ones, and a driver compiled for these tests.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.bundled import MODEL
from iern.runtime.doctor import findings, report
from iern.runtime.doctor.findings import Finding
from iern.runtime.doctor.probes import run_probe
from iern.runtime.sources.v4l2 import cameras
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.processor import processor
from repository import ROOT

SCRIPT = ROOT / "runtime" / "doctor" / "__main__.py"
WORKS = {"version": "2.0.0"}
GPU = {"version": "13.0", "gpus": [{"name": "a card", "sm": "8.7", "memory_gib": 8.0}]}
NO_GPU = {"error": "there is no NVIDIA driver (no libcuda.so.1)", "missing": True}

ABSENT = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)"
NO_LIBRARY = "raise ImportError('{}: cannot open shared object file: No such file or directory')"
ABORTS = "import os; os.abort()"
JUNK = "import atexit; print('a banner', flush=True); atexit.register(print, 'and a farewell')\n"

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path, monkeypatch) -> Put:
    """`put("cv2", code)` creates a package before every installed one. `version` adds a wheel's metadata."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))

    def write(package: str, code: str | None = None, version: str = "", wheel: str = "") -> None:
        if code is not None:
            (folder / package).mkdir()
            (folder / package / "__init__.py").write_text(code, encoding="utf-8")
        if version:
            name = wheel or package
            info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n", encoding="utf-8")

    return write


@pytest.fixture
def program(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """`program("nvcc", text)` puts a program that prints the text first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", encoding="utf-8")
        path.chmod(0o755)

    return write


def assert_finding(finding: Finding, state: str, text: str, remedy: str) -> None:
    assert finding.state == state, finding
    assert re.search(text, finding.text), finding.text
    assert re.search(remedy, finding.remedy), finding.remedy
    assert "\n" not in finding.text + finding.remedy
    json.dumps(finding.data)


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, encoding="utf-8", check=False, timeout=300
    )


def test_a_machine_that_can_run_the_loop_is_reported_without_output_on_stderr_and_without_torch(tmp_path, put):
    put("torch", f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    done = run(SCRIPT, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["schema"], report["ok"]) == (1, True)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert set(found) >= {
        "python",
        "numpy",
        "opencv",
        "onnxruntime",
        "gpu",
        "model",
        "kernel",
        "camera",
        "display",
        "cpu",
    }
    for name in ("python", "numpy", "onnxruntime", "cpu"):
        assert found[name]["state"] == "ok", found[name]
    assert found["model"]["data"]["infer_ms"] > 0
    assert found["model"]["data"]["detect_ms"] > 0
    assert len(found["model"]["data"]["expressions"]) == 7
    assert found["cpu"]["data"]["budget"] == cpu_budget()
    assert not (tmp_path / "imported").exists()


def test_with_everything_broken_each_problem_is_a_line_with_its_remedy_below(tmp_path, put):
    put("cv2", ABORTS)
    put("onnxruntime", JUNK + "raise OSError('an invalid ELF header')")
    put("tensorrt", JUNK + ABORTS)
    put("pycuda", "import os; os._exit(3)")
    done = run("-m", "iern.runtime.doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    report, _, verdict = done.stdout.rstrip().rpartition("\n\n")
    assert verdict == "the webcam loop cannot run: opencv, onnxruntime, model"
    lines = report.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert re.match(r"(ok      |note    |problem ) [a-z]+ {2,}\S| {22}-> \S", line), line
        assert line[22] != " "
        if line.startswith("problem"):
            assert following.startswith(" " * 22 + "-> ")
    assert "crashes its process (SIGABRT)" in report
    assert "invalid ELF header" in report
    assert "first fix opencv and onnxruntime above" in report
    assert "pycuda" in report
    assert "status 3" in report


def test_without_the_package_itself_the_script_prints_how_to_install_it(tmp_path):
    done = run("-I", "-S", SCRIPT, cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install -e '.[cpu]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_check_that_fails_is_a_line_of_the_report_and_the_others_still_run(monkeypatch):
    def fails() -> int:
        raise ZeroDivisionError("no cores")

    monkeypatch.setattr(findings, "cpu_budget", fails)
    monkeypatch.setattr(report, "run_probe", lambda *_, **__: {"error": "not probed"})
    monkeypatch.setattr(findings, "run_probe", lambda *_, **__: {"error": "not probed"})
    found = {finding.name: finding for finding in report.examine()}
    assert_finding(found["cpu"], "note", "ZeroDivisionError: no cores", "report it")
    assert "camera" in found


def test_with_an_old_python_the_needed_version_is_printed(tmp_path):
    program = "import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = run("-c", program, SCRIPT, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"problem: Python \S+ is too old; install 3\.10 or newer.*\n", done.stderr)


@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (ABSENT, "is not installed", "pip install opencv-python"),
        (NO_LIBRARY.format("libGL.so.1"), r"libGL\.so\.1", "opencv-python-headless.*apt-get install libgl1"),
        ("raise OSError('cannot allocate memory in static TLS block')", "static TLS", "pip uninstall .*pip install"),
        ("raise AttributeError('_ARRAY_API not found')", "AttributeError", "pip uninstall .*pip install"),
        ("import nothing_of_this_name", "nothing_of_this_name", "pip uninstall .*pip install"),
        (ABORTS, "SIGABRT", "pip uninstall .*pip install"),
    ],
)
def test_an_opencv_that_cannot_be_imported_is_a_problem_with_the_remedy_that_fits(put, code, text, remedy):
    put("cv2", code)
    assert_finding(findings.opencv(run_probe("cv2"), WORKS), "problem", text, remedy)


def test_two_wheels_of_opencv_are_worth_a_note(put):
    put("", version="4.13.0", wheel="opencv-python")
    put("", version="4.13.1", wheel="opencv-python-headless")
    found = findings.opencv(run_probe("cv2"), WORKS)
    assert_finding(found, "note", "overwrite each other", "pip uninstall opencv-python opencv-python-headless, then")
    assert set(found.data["wheels"]) == {"opencv-python", "opencv-python-headless"}


def test_the_libraries_of_opencv_are_reported_as_in_its_build_information():
    import cv2

    found = findings.opencv(run_probe("cv2"), WORKS)
    assert found.state == "ok"
    assert cv2.__version__ in found.text
    assert found.data["FFMPEG"] == ("FFMPEG:                      YES" in cv2.getBuildInformation())
    assert found.data["windows"] == cv2.currentUIFramework()


def test_a_broken_numpy_is_the_problem_and_the_libraries_that_need_it_refer_to_it(put):
    put("numpy", "raise ImportError('numpy.core.multiarray failed to import')")
    numpy = run_probe("module", "numpy")
    assert_finding(findings.numpy(numpy), "problem", "multiarray", "pip install .*numpy>=2")
    assert_finding(findings.opencv(run_probe("cv2"), numpy), "problem", "", "first fix numpy")
    assert_finding(findings.onnxruntime(run_probe("onnxruntime"), numpy), "problem", "", "first fix numpy")


def test_both_wheels_of_onnxruntime_are_a_problem_even_if_it_works(put):
    put("", version="1.31.0", wheel="onnxruntime")
    put("", version="1.30.0", wheel="onnxruntime_gpu")
    found = findings.onnxruntime(run_probe("onnxruntime"), WORKS)
    both = "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'iern.gpu.' .*'iern.cpu.'"
    assert_finding(found, "problem", "onnxruntime 1.31.0 and onnxruntime-gpu 1.30.0 overwrite", both)


@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (ABSENT, "is not installed", r"pip install 'iern\[gpu\]'.*'iern\[cpu\]'"),
        (NO_LIBRARY.format("libcudart.so.12"), r"libcudart\.so\.12", "pip uninstall onnxruntime"),
        ("", "AttributeError", "pip uninstall onnxruntime"),
        (ABORTS, "SIGABRT", "pip uninstall onnxruntime"),
    ],
)
def test_an_onnxruntime_that_cannot_be_imported_is_a_problem(put, code, text, remedy):
    put("onnxruntime", code)
    assert_finding(findings.onnxruntime(run_probe("onnxruntime"), WORKS), "problem", text, remedy)


def test_a_library_that_hangs_is_stopped_after_the_timeout(put):
    put("slow", "import time; time.sleep(60)")
    assert run_probe("module", "slow", timeout=0.5) == {"error": "did not finish within 0.5 s"}


def test_the_output_of_a_library_does_not_disturb_its_result(put):
    put("loud", JUNK + "__version__ = '1.2'\nprint('no newline at the end', end='')")
    assert run_probe("module", "loud")["version"] == "1.2"


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int n) { strncpy(name, n ? "Second" : "Orin (nvgpu)", size); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 8 : 7; return 0; }
int cuDeviceTotalMem_v2(unsigned long *size, int device) { *size = 8ul << 30; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "an explanation"; return code == 999; }
"""


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Callable[[int, int], dict]:
    """`driver(status, count)` -> the probe's result for a driver with `count` GPUs that starts with that status."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")

    def install(status: int, count: int) -> dict:
        (tmp_path / "cuda.c").write_text(DRIVER, encoding="utf-8")
        command = ["cc", "-shared", "-fPIC", f"-DINIT={status}", f"-DCOUNT={count}", "cuda.c", "-o", "libcuda.so.1"]
        subprocess.run(command, cwd=tmp_path, check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        return run_probe("cuda")

    return install


def test_the_gpus_are_reported_with_architecture_memory_and_the_cuda_of_the_driver(driver):
    found = findings.gpu(driver(0, 2))
    assert_finding(found, "ok", r"Orin \(nvgpu\), SM 8\.7, 8\.0 GiB; Second, .*supports CUDA 13\.2", "^$")
    assert len(found.data["gpus"]) == 2


@pytest.mark.parametrize(
    ("status", "count", "text", "remedy"),
    [
        (100, 0, "error 100, an explanation", "CUDA_VISIBLE_DEVICES.*--gpus all"),
        (803, 0, "error 803", "restart the machine"),
        (999, 0, r"error 999\)", "nvidia-smi"),
        (0, 0, "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_driver_that_does_not_work_is_noted_with_cudas_reason(driver, status, count, text, remedy):
    assert_finding(findings.gpu(driver(status, count)), "note", text, remedy)


def test_a_driver_that_cannot_be_loaded_is_noted(tmp_path, monkeypatch):
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library at all" * 9)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert_finding(findings.gpu(run_probe("cuda")), "note", "cannot be loaded .*ELF", "install the driver again")


def test_a_card_without_a_driver_is_distinguished_from_no_card(tmp_path):
    device = tmp_path / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n", encoding="utf-8")
    (device / "class").write_text("0x040300\n", encoding="utf-8")  # its sound device is not a GPU
    assert_finding(findings.gpu(NO_GPU, tmp_path), "note", "^none: there is no NVIDIA driver", "^$")
    (device / "class").write_text("0x030000\n", encoding="utf-8")
    assert_finding(findings.gpu(NO_GPU, tmp_path), "note", "there is an NVIDIA card", "install its driver")


@pytest.fixture
def tiny(tmp_path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model())
    return path


def needs_cpu_build() -> dict:
    engine = run_probe("onnxruntime")
    if "CUDAExecutionProvider" in engine["providers"]:
        pytest.skip("needs an onnxruntime for the CPU")
    return engine


def test_a_cpu_build_has_no_other_provider_and_with_a_gpu_the_remedy_is_the_gpu_build(tiny):
    engine = needs_cpu_build()
    assert_finding(findings.model(tiny, WORKS, engine, NO_GPU), "ok", "on the CPU, the only provider", "^$")
    found = findings.model(tiny, WORKS, engine, GPU)
    assert_finding(found, "note", "cannot use the GPU", r"pip uninstall onnxruntime, .*iern\[gpu\]")


def test_the_reason_for_float32_or_8_bits_is_reported(tmp_path, tiny):
    needs_cpu_build()
    found = findings.model(tiny, WORKS, WORKS, NO_GPU)
    assert_finding(found, "ok", r"; not 8 bits: there is no tiny\.int8\.onnx beside it$", "^$")
    described = dataclasses.replace(tiny_artifact(), float_sha256="0" * 64)
    (tmp_path / "tiny.int8.onnx").write_bytes(tiny_model(described))
    if processor().dot_products:
        found = findings.model(tiny, WORKS, WORKS, NO_GPU)
        assert_finding(
            found, "ok", r"; not 8 bits: tiny\.int8\.onnx was not made from this file; make it: python", "^$"
        )


def test_the_processor_is_reported_with_its_8_bit_dot_products():
    here = processor()
    assert_finding(findings.cpu(), "ok", rf"; {re.escape(str(here))}, 8-bit dot products: ", "^$")
    assert all(name in findings.cpu().text for name in here.dot_products or ())


def gpu_build(put: Put, log: str = "") -> dict:
    """The installed onnxruntime, changed to claim that it has CUDA, and to log what a real one logs when it fails."""
    put(
        "onnxruntime",
        "import sys\n"
        "sys.path.remove(__path__[0].rpartition('/')[0])\n"
        "del sys.modules[__name__]\n"
        "import onnxruntime\n"
        "onnxruntime.get_available_providers = lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
        f"sys.stderr.write({log!r})\n",
    )
    return {"version": "1.31", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


def test_a_gpu_build_without_a_gpu_is_noted_with_both_remedies(put, tiny):
    needs_cpu_build()
    found = findings.model(tiny, WORKS, gpu_build(put), NO_GPU)
    assert_finding(
        found, "note", "on the CPU: .*for NVIDIA GPUs, but no GPU works", "fix the GPU.*pip install 'iern.cpu.'"
    )


def test_a_library_that_cuda_lacks_is_named(put, tiny):
    needs_cpu_build()
    log = "Failed to load libonnxruntime_providers_cuda.so: libcudnn.so.9: cannot open shared object file"
    found = findings.model(tiny, WORKS, gpu_build(put, log), GPU)
    assert_finding(
        found,
        "note",
        r"without libcudnn\.so\.9; not 8 bits: there is no tiny\.int8\.onnx beside it$",
        "onnxruntime-gpu.cuda,cudnn.",
    )


def test_a_gpu_that_cannot_run_the_model_is_noted_with_onnxruntimes_reason(put, tiny):
    needs_cpu_build()
    found = findings.model(tiny, WORKS, gpu_build(put), GPU)
    assert_finding(found, "note", "on the CPU: CUDA cannot run the whole model", "check nvidia-smi")


def test_a_model_that_does_not_open_is_a_problem_with_the_remedy_of_its_error(tmp_path, tiny):
    engine = run_probe("onnxruntime")
    found = findings.model(tmp_path / "no.onnx", WORKS, engine, NO_GPU)
    assert_finding(found, "problem", "no.onnx: no such file$", "check the path, or export the checkpoint again")
    tiny.write_bytes(tiny.read_bytes()[:300])
    assert_finding(findings.model(tiny, WORKS, engine, NO_GPU), "problem", "cannot load it", "copy it again")


def test_a_model_that_crashes_its_process_is_a_problem(put):
    put("onnxruntime", ABORTS)
    found = findings.model(MODEL, WORKS, WORKS, NO_GPU)
    assert_finding(found, "problem", "SIGABRT", "install onnxruntime and iern again.*--provider cpu")


def test_both_flavours_of_tensorrt_are_reported_with_their_versions(put):
    put("tensorrt", "__version__ = '10.3.0'")
    put("tensorrt_rtx", "__version__ = '1.7.1'")
    assert_finding(findings.tensorrt(), "ok", "TensorRT 10.3.0; TensorRT for RTX 1.7.1", "^$")


def test_a_tensorrt_that_does_not_import_is_noted(put):
    put("tensorrt", NO_LIBRARY.format("libnvinfer.so.10"))
    assert_finding(findings.tensorrt(), "note", r"TensorRT: .*libnvinfer\.so\.10", "fits the driver and CUDA")


def test_bindings_that_are_installed_alone_count(put):
    put("tensorrt_rtx", ABSENT)
    put("tensorrt_rtx_bindings", "__version__ = '1.7.1'")
    assert_finding(findings.tensorrt(), "ok", "TensorRT for RTX 1.7.1", "^$")


def test_a_tensorrt_wheel_without_its_module_is_noted(put):
    put("", version="10.3.0", wheel="tensorrt-cu12")
    for module in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        put(module, ABSENT)
    found = findings.tensorrt()
    assert_finding(found, "note", r"tensorrt-cu12 10\.3\.0.*, but there is no module", "pip install tensorrt")


def test_a_missing_tensorrt_is_a_note_without_a_remedy(put, monkeypatch):
    for module in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        put(module, ABSENT)
    monkeypatch.setattr(findings, "installed", lambda names=None: {})
    assert_finding(findings.tensorrt(), "note", "only engines need it", "^$")


def test_a_missing_pycuda_is_a_note_without_a_remedy(put):
    put("pycuda", ABSENT)
    assert_finding(findings.pycuda(), "note", "only engines need it", "^$")


def test_a_pycuda_that_does_not_import_is_noted_with_its_version(put):
    put("pycuda", NO_LIBRARY.format("libcuda.so.1"), version="2026.1")
    assert_finding(findings.pycuda(), "note", r"^2026\.1: .*libcuda", "--force-reinstall.*pycuda")


def test_the_binaries_of_the_kernel_are_reported_with_the_one_that_the_gpu_uses():
    one = "strata_tail.sm_87.cubin or else strata_tail.compute_75.ptx"
    found = findings.kernel(GPU)
    assert_finding(found, "ok", rf"^compiled for sm_75, .*, sm_87, .*sm_121, and as PTX; a card uses {one}$", "^$")
    assert found.data["chosen"] == {"a card": one.split(" or else ")}
    assert found.data["binaries"][one.split()[0]]["architecture"] == "sm_87"


@pytest.mark.parametrize("driver", [NO_GPU, {"version": "13.0", "gpus": []}])
def test_without_a_gpu_the_binaries_of_the_kernel_are_noted(driver):
    assert_finding(findings.kernel(driver), "note", "and as PTX; there is no GPU to use it$", "^$")


@pytest.mark.parametrize(
    ("sm", "state", "used"), [("12.2", "ok", "strata_tail.compute_75.ptx"), ("7.2", "note", "none")]
)
def test_a_gpu_newer_than_the_kernels_compilers_uses_ptx_and_one_too_old_is_noted(sm, state, used):
    driver = {"version": "13.0", "gpus": [{"name": "a card", "sm": sm, "memory_gib": 8.0}]}
    assert_finding(findings.kernel(driver), state, f"; a card uses {used}", "^$")


def test_a_binary_of_the_kernel_that_is_missing_or_damaged_is_noted_with_its_remedy(tmp_path):
    folder = shutil.copytree(findings.BINARIES, tmp_path / "binaries")
    (folder / "strata_tail.sm_121.cubin").write_bytes(b"")
    remedy = r"^install iern again, or in the repository: python cpp_ext/build_binaries\.py$"
    assert_finding(findings.kernel(GPU, folder), "note", r"sm_121\.cubin: is not the file that manifest", remedy)
    (folder / "manifest.json").unlink()
    assert_finding(findings.kernel(NO_GPU, folder), "note", r"manifest\.json: cannot be read \(No such file", remedy)


def test_the_cuda_compiler_is_reported_with_its_version(program):
    program("nvcc", "Cuda compilation tools, release 12.6, V12.6.68")
    assert_finding(findings.cuda_compiler(), "ok", r"^12\.6, .*/bin/nvcc$", "^$")


def test_a_missing_cuda_compiler_is_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_finding(findings.cuda_compiler(tmp_path), "note", "not found; .* only to build", "^$")


def video(root: Path, name: str, label: str | None = None, index: int = 0, device: bool = True) -> Path:
    """A video device as the kernel lists it, and its file."""
    if label is not None:
        folder = root / "sys" / "class" / "video4linux" / name
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{label}\n", encoding="utf-8")
        (folder / "index").write_text(f"{index}\n", encoding="utf-8")
    (root / "dev").mkdir(exist_ok=True)
    if device:
        (root / "dev" / name).touch()
    return root / "dev" / name


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are listed on Linux only")
class TestCameras:
    def test_cameras_are_listed_by_number_with_their_names_and_without_metadata_nodes(self, root):
        for number in (0, 2, 10):
            video(root, f"video{number}", f"Camera {number}")
        video(root, "video1", "Camera 0", index=1)
        video(root, "video3")
        assert [camera.device for camera in cameras(root)] == [f"/dev/video{number}" for number in (0, 2, 3, 10)]
        assert_finding(findings.camera(root), "ok", "/dev/video0 Camera 0; /dev/video2 Camera 2; /dev/video3;", "^$")

    def test_no_camera_is_noted_with_what_to_use_instead(self, root):
        assert_finding(findings.camera(root), "note", "none", "connect one.*--source")

    def test_a_camera_that_this_user_may_not_open_is_noted_with_the_group(self, root):
        video(root, "video0", "Camera").chmod(0)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            found = findings.camera(root)
        finally:
            os.seteuid(before)
        assert_finding(found, "note", "may not open /dev/video0", "usermod -aG video")

    def test_a_camera_that_the_container_was_not_given_is_noted_with_the_option(self, root):
        video(root, "video0", "Camera", device=False)
        assert_finding(findings.camera(root), "note", "not in /dev: /dev/video0", "--device /dev/video0")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be without a display")
def test_without_a_display_the_options_that_need_none_are_named(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert_finding(
        findings.display(WORKS), "note", "no window: .*(no display|without windows)", "--headless with --record"
    )


@pytest.mark.parametrize(
    ("mode", "state", "remedy"),
    [("MAXN_SUPER", "ok", "^$"), ("15W", "note", "sudo nvpmodel.*jetson_clocks"), ("", "note", "nvpmodel")],
)
def test_the_power_mode_of_a_jetson_is_reported_and_a_slow_one_is_noted(tmp_path, program, mode, state, remedy):
    (tmp_path / "etc").mkdir()
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    (tmp_path / "etc" / "nv_tegra_release").write_text(release, encoding="utf-8")
    program("nvpmodel", f"NV Power Mode: {mode}\n2" if mode else "NVPM ERROR")
    found = findings.jetson_board(tmp_path)
    assert found is not None
    assert_finding(found, state, rf"R36\.4\.3, power mode {mode or 'unknown'}$", remedy)


def test_another_machine_has_no_line_about_jetsons(tmp_path):
    assert findings.jetson_board(tmp_path) is None
