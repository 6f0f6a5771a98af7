"""A real Triton server for slow tests: the one in nvidia-pytriton's wheel, which needs no GPU and no Docker.

It has the Python backend only. That runs the ONNX file of a repository in onnxruntime, in an environment of its own,
because this backend does not support NumPy 2. It parses the configurations of the other backends too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doubles.servers.mosquitto_broker import free_port

WHEEL = "nvidia-pytriton==0.7.0"
MODEL_SIDE = ("numpy<2", "onnxruntime")
SECONDS = 120

MODEL = """
import os
import sys

sys.path.insert(0, {packages!r})  # the backend's own Python does not read PYTHONPATH everywhere
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

NAMES = ("probabilities", "logits", "stratum_logits")


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        parts = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        outputs = self.session.run(NAMES, {"image": np.concatenate(parts)})
        ends = np.cumsum([len(part) for part in parts])[:-1]
        split = zip(*(np.split(output, ends) for output in outputs))
        return [
            triton.InferenceResponse([triton.Tensor(name, values) for name, values in zip(NAMES, one)]) for one in split
        ]
"""
"""model.py of the Python backend: it joins the requests of a batch, as the other backends do by themselves."""


class UnavailableError(Exception):
    """The real server cannot be had on this machine."""


@dataclass(frozen=True)
class Installation:
    """The server's files, and what its models import."""

    program: Path
    libraries: Path
    backends: Path
    packages: Path


def install_triton(folder: Path) -> Installation:
    """Get the wheel and its model's packages from the package registry. Raises UnavailableError with the reason."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UnavailableError("the wheel of nvidia-pytriton is for Linux on x86-64")
    _pip("download", "--no-deps", WHEEL, "--dest", folder)
    packages = folder / "packages"
    _pip("install", "--only-binary=:all:", "--target", packages, *MODEL_SIDE)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "wheel")
    server, libraries = folder / "wheel" / "pytriton" / "tritonserver", folder / "wheel" / "nvidia_pytriton.libs"
    stub = server / f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    if not stub.is_file():
        raise UnavailableError(f"the wheel has no Python backend for Python {sys.version.split()[0]}")
    python = Path(shutil.copy(stub, server / "backends" / "python"))
    for program in (python, server / "bin" / "tritonserver"):
        program.chmod(0o755)
        needs = subprocess.run(
            ["ldd", program],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if absent := re.findall(r"(\S+) => not found", needs.stdout):
            raise UnavailableError(f"{program.name} needs {', '.join(absent)}: apt-get install libpython3.11")
    return Installation(server / "bin" / "tritonserver", libraries, server / "backends", packages)


def for_python_backend(installation: Installation, repository: Path) -> None:
    """Let the Python backend run the ONNX file of the repository's newest version, which is not changed otherwise."""
    model = repository / "iern"
    config = model / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    text = text.replace('backend: "onnxruntime"', 'backend: "python"').replace('"model.onnx"', '"model.py"')
    (version,) = re.findall(r"versions: (\d+)", text)
    (model / version / "model.py").write_text(
        MODEL.replace("{packages!r}", repr(str(installation.packages))), encoding="utf-8"
    )
    config.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def real_triton(
    installation: Installation, repository: Path, port: int | None = None, *options: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server on a local port. Yields host:port when its models are ready, and its process, which it ends."""
    port = port or free_port()
    with running_triton(installation, repository, port, *options) as process:
        deadline = time.monotonic() + SECONDS
        while not _answers(f"http://127.0.0.1:{port}/v2/health/ready"):
            assert process.poll() is None, log_of(process)
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", process


@contextlib.contextmanager
def running_triton(
    installation: Installation, repository: Path, port: int, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Start the server, which may fail. Yields its process, and kills it at the end."""
    command = [
        *(installation.program, f"--model-repository={repository}", f"--backend-directory={installation.backends}"),
        *("--http-address", "127.0.0.1", "--http-port", str(port), "--allow-grpc=false", "--allow-metrics=false"),
        *options,
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(installation.libraries)}
    log = repository.parent / f"triton.{port}.log"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*map(str, command)], env=environment, stdout=file, stderr=subprocess.STDOUT, encoding="utf-8"
        )
    process.log = log  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def log_of(process: subprocess.Popen[str]) -> str:
    """What the server printed so far."""
    return str(process.log.read_text(encoding="utf-8", errors="replace"))  # type: ignore[attr-defined]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"pip {words[0]} fails: {done.stderr.strip().splitlines()[-1:]}")
