"""Command: compile a file of kernels for every GPU. The package ships the binaries for machines without nvcc."""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.cpp_ext.kernel_binaries import BINARIES, FRAME_BINARIES, MANIFEST, Binary

SOURCES = {
    "strata_tail": BINARIES.with_name("strata_tail.cu"),
    "frame": FRAME_BINARIES.with_name("frame.cu"),
}
"""Name of the kernels -> their source. Its header has the same name and ends in .h, and its binaries are beside it."""
OPTIONS = ("--std=c++17",)

EXAMPLES = """\
examples:
  python cpp_ext/build_binaries.py                       after a change of strata_tail.cu or strata_tail.h
  python cpp_ext/build_binaries.py --kernels frame       after a change of frame/frame.cu or frame/frame.h
  python cpp_ext/build_binaries.py --compilers ~/nvrtc   keep the compilers for the next time
  python cpp_ext/build_binaries.py --output /tmp/again   the same bytes in another folder, to compare

The command needs Linux, but no GPU, driver or CUDA toolkit. It installs NVRTC, NVIDIA's compiler as a library, from
PyPI with pip (110 MB). It takes a minute and writes nothing until everything has compiled. Commit the changed files.
"""


@dataclass(frozen=True)
class Compiler:
    """A version of NVRTC, its packages, and the architectures that it compiles for."""

    version: str
    packages: tuple[str, ...]
    architectures: tuple[str, ...]
    """sm_75 gives a cubin, compute_75 gives PTX."""


# Binaries of CUDA 12.6 run with drivers of 12.6, which JetPack 6 has, and of every later CUDA. CUDA 13.0 compiles for
# the other GPUs: it is the first that supports them all. Drivers of 12.8 and 12.9 support some of these GPUs. If they
# refuse the cubins of 13.0, they compile the PTX once and cache it, so a third compiler is not worth it.
COMPILERS = (
    Compiler(
        "12.6.85",
        ("nvidia-cuda-nvrtc-cu12==12.6.85", "nvidia-cuda-runtime-cu12==12.6.77"),
        ("compute_75", "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90"),
    ),
    Compiler(
        "13.0.88",
        ("nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-runtime==13.0.96"),
        ("sm_88", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121"),
    ),
)


class BuildError(Exception):
    """A compiler cannot be installed, or does not compile the kernels."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="build_binaries.py",
        description=__doc__.removeprefix("Command: "),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--kernels", choices=tuple(SOURCES), default="strata_tail", help="what to compile (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder to replace (default: binaries, beside the source)"
    )
    parser.add_argument(
        "--compilers", type=Path, metavar="FOLDER", help="folder of the compilers; those that it lacks are installed"
    )
    options = parser.parse_args(argv)
    source = SOURCES[options.kernels]
    output = options.output or source.with_name(BINARIES.name)
    # Not `iern.runtime.system.command`: cpp_ext does not import runtime.
    try:
        with tempfile.TemporaryDirectory(prefix="iern-nvrtc-") as scratch:
            files = dict(build(options.compilers or Path(scratch), source))
        replace_folder(output, files)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {output}: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB")
    return 0


def build(compilers: Path, source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file, the manifest last. Prints a line for each. Raises BuildError."""
    described = {}
    for compiler in COMPILERS:
        nvrtc, headers = load(compiler, compilers / compiler.version)
        for architecture in compiler.architectures:
            name = f"{source.stem}.{architecture}.{'ptx' if architecture.startswith('compute_') else 'cubin'}"
            content = compiled(nvrtc, headers, architecture, source)
            print(f"{name:<27}NVRTC {compiler.version:<9}{len(content):>9,} bytes", flush=True)
            digest = hashlib.sha256(content).hexdigest()
            described[name] = Binary(name, "NVRTC", compiler.version, architecture, digest)
            yield name, content
    yield MANIFEST, manifest(described.values(), source)


def manifest(binaries: Iterable[Binary], source: Path) -> bytes:
    """The manifest's bytes, which `kernel_binaries.read_manifest` reads."""
    files = {}
    for binary in sorted(binaries, key=lambda binary: binary.number):
        values = dataclasses.asdict(binary)
        files[values.pop("name")] = values
    return (json.dumps({"source_sha256": source_sha256(source), "files": files}, indent=1) + "\n").encode()


def source_sha256(source: Path) -> str:
    """The SHA-256 of a .cu file followed by its header."""
    return hashlib.sha256(source.read_bytes() + source.with_suffix(".h").read_bytes()).hexdigest()


def load(compiler: Compiler, folder: Path) -> tuple[ctypes.CDLL, Path]:
    """NVRTC, and the folder of CUDA's headers. Installs both into `folder` if it lacks them."""
    if not any(folder.rglob("libnvrtc.so.*")):
        print(f"installing {' '.join(compiler.packages)}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--only-binary=:all:", "--target", str(folder), *compiler.packages]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gives no reason")
            raise BuildError(
                f"NVRTC {compiler.version} cannot be installed ({' '.join(reason.split())}); PyPI has it for Linux: "
                "check the connection, and that this Python has pip"
            )
    # NVRTC opens its builtins by a name that the linker finds in this folder only if they are already loaded.
    ctypes.CDLL(str(_found(folder, "libnvrtc-builtins.so.*")))
    nvrtc = ctypes.CDLL(str(_found(folder, "libnvrtc.so.*")))
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    if not compiler.version.startswith(f"{major.value}.{minor.value}."):
        raise BuildError(f"{folder}: has NVRTC {major.value}.{minor.value}, not {compiler.version}; delete the folder")
    return nvrtc, _found(folder, "cuda_fp16.h").parent


def compiled(nvrtc: ctypes.CDLL, headers: Path, architecture: str, source: Path) -> bytes:
    """The kernels as a cubin (sm_..) or PTX (compute_..).

    The compiler gets no path except that of its own headers, and writes none into its output.
    """
    program = ctypes.c_void_p()
    header = source.with_suffix(".h")
    texts, names = _strings(header.read_bytes()), _strings(header.name.encode())
    text = source.read_bytes(), source.name.encode()
    _check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), *text, 1, texts, names))
    try:
        options = (f"--gpu-architecture={architecture}", *OPTIONS, f"--include-path={headers}")
        if nvrtc.nvrtcCompileProgram(program, len(options), _strings(*(option.encode() for option in options))):
            log = _output(nvrtc, program, "ProgramLog").decode("utf-8", "replace")
            raise BuildError(f"{source.name} does not compile for {architecture}:\n{log}")
        if architecture.startswith("compute_"):
            return _output(nvrtc, program, "PTX").rstrip(b"\0")
        return _output(nvrtc, program, "CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def replace_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files to a new folder beside `target`, then replace `target` by it. Until then `target` stays as it is.

    Raises BuildError if `target` is not a folder of binaries.
    """
    empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not empty and not (target / MANIFEST).is_file():
        raise BuildError(f"{target}: would be replaced, but is not a folder of binaries; use another for --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise


def _output(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, kind: str) -> bytes:
    """An output of NVRTC for a program. `kind` is ProgramLog, PTX or CUBIN."""
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}")(program, content))
    return content.raw


def _check(nvrtc: ctypes.CDLL, code: int) -> None:
    if code:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise BuildError(f"NVRTC fails with {nvrtc.nvrtcGetErrorString(code).decode()}")


def _strings(*texts: bytes) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*texts)


def _found(folder: Path, name: str) -> Path:
    found = next((path for path in sorted(folder.rglob(name)) if ".alt." not in path.name), None)
    if found is None:
        raise BuildError(f"{folder}: has no {name}; delete the folder, so that the compiler is installed again")
    return found


if __name__ == "__main__":
    sys.exit(main())
