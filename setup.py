"""Folder mapping: the top-level folders are the subpackages of `iern`, so that nothing called `train` is installed.

The package `iern` itself, with the command and the names of the library, is the folder `runtime/package`. The one
benchmark that people run on models and faces of their own, `benchmarks/audit`, is installed as `iern.audit`.

`IERN_BUILD_TAIL=1 pip install -e .` also builds the averaging tail's shared libraries: the twin where there is a C++
compiler, the kernel where there is nvcc. Nobody needs them to install, train, export or run, so none is built unasked.
"""

import os
import runpy
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

FOLDERS = ("train", "export", "runtime", "cpp_ext")
ITSELF = "package"
"""The folder in `runtime` that is `iern`, and therefore not `iern.runtime.package` too."""
PACKAGES = {"iern": f"runtime/{ITSELF}", "iern.audit": "benchmarks/audit"} | {
    f"iern.{name}": name.replace(".", "/")
    for folder in FOLDERS
    for name in (folder, *(f"{folder}.{inner}" for inner in find_packages(folder, exclude=[ITSELF])))
}
COMMANDS = runpy.run_path(str(Path(__file__).parent / "cpp_ext" / "compile_native.py"))["COMMANDS"]


class BuildLibraries(build_ext):
    """Plain shared libraries, not Python modules: by our own commands, under their own names."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, extension):
        output = Path(self.get_ext_fullpath(extension.name))
        command = COMMANDS[extension.name.split(".")[-1]](output)
        if command is None:
            self.warn(f"no compiler for {output.name}: it is left out, and PyTorch's own operations take its place")
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        self.spawn(command)


libraries = [Extension(f"iern.cpp_ext.{name}", [], optional=True) for name in COMMANDS]

setup(
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "iern": ["py.typed"],
        "iern.runtime": ["models/*.onnx", "models/*.txt", "media/*", "py.typed"],
        "iern.runtime.serve": ["page/*"],
        "iern.runtime.service": ["page/*"],
        "iern.train": ["recipes/*.yaml", "py.typed"],
        "iern.export": ["py.typed"],
        "iern.cpp_ext": ["*.cu", "*.cpp", "*.h", "binaries/*", "py.typed"],
        "iern.cpp_ext.frame": ["*.cu", "*.h", "binaries/*"],
    },
    ext_modules=libraries if os.environ.get("IERN_BUILD_TAIL") == "1" else [],
    cmdclass={"build_ext": BuildLibraries},
)
