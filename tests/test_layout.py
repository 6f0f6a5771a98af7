"""The repository keeps its layout: what lies at the top, who imports whom, and which names are taken."""

from __future__ import annotations

import contextlib
import graphlib
import subprocess
import sys
import textwrap
from collections import Counter

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repository import (
    CODE,
    PACKAGES,
    ROOT,
    imports,
    modules_of,
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

MOST_FILES = 15
"""Python files in one folder; more, and a reader no longer finds his way in it by names."""
MOST_ARROWS = {"runtime": 75, "train": 35, "export": 20, "benchmarks": 10}
"""Pairs of rooms (a folder, or a module at the top of a package) of which one imports the other."""

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
def test_no_file_or_folder_shadows_a_module_when_its_folder_comes_first_on_the_path(folder):
    taken = set(sys.stdlib_module_names) | modules_of_dependencies() | NOT_INSTALLED_EVERYWHERE
    assert {"numpy", "cv2", "torch", "onnx", "inspect"} <= taken, "the authority itself is incomplete"
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    folders = {path.name for path in (ROOT / folder).iterdir() if path.is_dir()} - {"__pycache__"}
    assert not (files | folders) & taken
    assert not files & folders, "a module and a package of one name: Python takes the package"


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
    modules = modules_of("runtime")
    assert {"iern.runtime.webcam", "iern.runtime.sources.live"} <= set(modules)
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


def room_of(dotted: str) -> str:
    """Import name -> the innermost folder in which it lies, or the module itself at the top of a package."""
    folder, rest = ROOT, dotted.removeprefix("iern.").split(".")
    while rest and (folder / rest[0]).is_dir():
        folder /= rest.pop(0)
    at_the_top = rest and folder.parent == ROOT and (folder / f"{rest[0]}.py").is_file()
    return relative(folder / f"{rest[0]}.py" if at_the_top else folder)


def arrows(package: str) -> dict[str, set[str]]:
    """Room -> the other rooms of its package that it imports at run time."""
    found: dict[str, set[str]] = {}
    for path in python_files(package):
        if path == ROOT / package / "__init__.py":
            continue  # it offers what the rooms hold
        room = relative(path if path.parent == ROOT / package else path.parent)
        named = {room_of(name) for name in imports(path, at_run_time=True) if name.startswith(("iern.", "benchmarks."))}
        found.setdefault(room, set()).update(other for other in named - {room, package} if other.startswith(package))
    return found


@pytest.mark.parametrize("package", MOST_ARROWS)
def test_imports_between_the_rooms_of_a_package_form_no_circle_and_are_few(package):
    below = arrows(package)
    assert sum(map(len, below.values())) <= MOST_ARROWS[package]
    with contextlib.suppress(graphlib.CycleError):
        assert list(graphlib.TopologicalSorter(below).static_order())
        return
    circles = [room for room in below if room in reached(room, below)]
    pytest.fail(f"these import one another: {circles}")


def reached(start: str, below: dict[str, set[str]]) -> set[str]:
    """Every room at the end of a path of arrows that begins at `start`."""
    found: set[str] = set()
    waiting = list(below.get(start, ()))
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += below.get(room, ())
    return found


@pytest.mark.parametrize("package", [*CODE, "tests"])
def test_a_folder_of_code_has_few_files_and_more_than_one(package):
    numbers = Counter(path.parent for path in python_files(package) if path.name != "__init__.py")
    crowded = {relative(folder): count for folder, count in numbers.items() if count > MOST_FILES}
    assert not crowded
    if package != "tests":  # they mirror the code, and one file may hold all tests of a folder
        lonely = {relative(folder) for folder, count in numbers.items() if count == 1} - {package, "runtime/media"}
        assert not lonely


def test_nothing_but_tests_imports_from_the_tests():
    ours = {path.stem for path in (ROOT / "tests").iterdir()} - {"runtime", "train", "export", "cpp_ext", "benchmarks"}
    for path in python_files(*CODE):
        assert not top_level(imports(path)) & {"tests", *ours}, relative(path)
