"""The repository keeps its layout: what lies at the top, who imports whom, and which names are taken."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repository import (
    CODE,
    PACKAGES,
    ROOT,
    imports,
    owners_of_modules,
    pyproject,
    python_files,
    relative,
    top_level,
    tracked_files,
    with_their_needs,
)

TOP_LEVEL = {
    *("train", "export", "runtime", "cpp_ext", "tests", "benchmarks", "docs"),
    *("setup.py", "pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md"),
}

MAY_IMPORT = {
    "cpp_ext": {"cpp_ext"},
    "runtime": {"runtime", "cpp_ext"},
    "train": {"train", "runtime"},
    "export": {"export", "train", "runtime", "cpp_ext"},
}

RUNTIME_NEEDS = {"numpy", "cv2", "onnxruntime"}

ABSENT_AT_RUN_TIME = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "lightning_fabric",
    "sklearn",
    "matplotlib",
    "jsonargparse",
)

NOT_INSTALLED_EVERYWHERE = {"tensorrt", "tensorrt_rtx", "pycuda", "cuda", "polygraphy", "openvino", "onnxruntime"}


def modules_of_dependencies() -> set[str]:
    """Top-level import names of everything we declare, and of everything that needs in turn."""
    extras = pyproject()["project"]["optional-dependencies"].values()
    names = with_their_needs({canonicalize_name(Requirement(text).name) for extra in extras for text in extra})
    return {module for module, owners in owners_of_modules().items() if owners & names}


def test_the_top_level_holds_only_what_the_layout_names():
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    unexpected = {name for name in top if name not in TOP_LEVEL and not name.startswith(".")}
    assert not unexpected
    assert top >= TOP_LEVEL


@pytest.mark.parametrize("folder", [*CODE, "tests"])
def test_no_file_shadows_a_module_when_its_folder_comes_first_on_the_path(folder):
    taken = set(sys.stdlib_module_names) | modules_of_dependencies() | NOT_INSTALLED_EVERYWHERE
    assert {"numpy", "cv2", "torch", "onnx", "inspect"} <= taken, "the authority itself is incomplete"
    ours = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert not ours & taken


@pytest.mark.parametrize("folder", PACKAGES)
def test_imports_point_one_way_and_never_back(folder):
    for path in python_files(folder):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("iern.")}
        assert ours <= MAY_IMPORT[folder], f"{relative(path)} imports {sorted(ours - MAY_IMPORT[folder])}"


@pytest.mark.parametrize("folder", CODE)
def test_our_modules_are_imported_by_their_installed_names(folder):
    """`import runtime` works only from the repository's root, and makes a second copy of every class."""
    for path in python_files(folder):
        bare = top_level(imports(path)) & set(PACKAGES)
        assert not bare, f"{relative(path)} imports {bare}; write iern.<name>"


def test_the_runtime_imports_nothing_heavier_than_numpy_opencv_and_onnxruntime():
    for path in python_files("runtime"):
        foreign = top_level(imports(path, at_run_time=True)) - set(sys.stdlib_module_names) - {"iern"}
        assert foreign <= RUNTIME_NEEDS, f"{relative(path)} imports {sorted(foreign - RUNTIME_NEEDS)}"


def test_every_runtime_module_loads_where_torch_and_its_company_are_absent():
    modules = [f"iern.runtime.{path.stem}" for path in sorted((ROOT / "runtime").glob("[!_]*.py"))]
    assert "iern.runtime.webcam" in modules
    program = textwrap.dedent(
        f"""
        import importlib, sys
        for name in {ABSENT_AT_RUN_TIME}:
            sys.modules[name] = None  # any import of it now raises ModuleNotFoundError
        for module in {modules}:
            importlib.import_module(module)
        dragged = [name for name in sys.modules if name.startswith(("iern.train", "iern.export"))]
        assert not dragged, dragged
        """
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
