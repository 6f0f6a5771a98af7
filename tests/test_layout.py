"""The repository keeps its layout: the top level, the imports between folders, and the names that are taken."""

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
    *("setup.py", "pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md", "LICENSE", "CHANGELOG.md"),
    *("SECURITY.md", "CITATION.cff"),
}

MAY_IMPORT = {
    "cpp_ext": {"cpp_ext"},
    "runtime": {"runtime", "cpp_ext"},
    "train": {"train", "runtime"},
    "export": {"export", "train", "runtime", "cpp_ext"},
}

RUNTIME_NEEDS = {"numpy", "av", "cv2", "onnxruntime", "simplejpeg"}

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
"""Python files in one folder. In a larger folder a reader cannot find a file by its name."""
MOST_IMPORTS = {"runtime": 95, "train": 35, "export": 20, "benchmarks": 13}
"""Package -> the most imports between its folders. A module at the top of a package counts as a folder."""

NOT_INSTALLED_EVERYWHERE = {"tensorrt", "tensorrt_rtx", "pycuda", "cuda", "polygraphy", "openvino", "onnxruntime"}


def modules_of_dependencies() -> set[str]:
    """Top-level import names of the declared dependencies, and of everything that they need in turn."""
    extras = pyproject()["project"]["optional-dependencies"].values()
    names = with_their_needs({canonicalize_name(Requirement(text).name) for extra in extras for text in extra})
    return {module for module, owners in owners_of_modules().items() if owners & names}


def test_the_top_level_holds_only_the_entries_of_the_layout():
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    unexpected = {name for name in top if name not in TOP_LEVEL and not name.startswith(".")}
    assert not unexpected
    assert top >= TOP_LEVEL


@pytest.mark.parametrize("folder", [*CODE, "tests"])
def test_no_file_or_folder_shadows_a_module_when_its_folder_comes_first_on_the_path(folder):
    taken = set(sys.stdlib_module_names) | modules_of_dependencies() | NOT_INSTALLED_EVERYWHERE
    assert {"numpy", "cv2", "torch", "onnx", "inspect"} <= taken, "the list of taken names is incomplete"
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    folders = {path.name for path in (ROOT / folder).iterdir() if path.is_dir()} - {"__pycache__"}
    assert not (files | folders) & taken
    assert not files & folders, "a module and a package of one name: Python takes the package"


@pytest.mark.parametrize("folder", PACKAGES)
def test_packages_import_in_one_direction_only(folder):
    for path in python_files(folder):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("iern.")}
        if path.parent == ROOT / "runtime" / "package":  # it is `iern` itself
            ours -= {file.stem for file in path.parent.glob("*.py")}
        assert ours <= MAY_IMPORT[folder], f"{relative(path)} imports {sorted(ours - MAY_IMPORT[folder])}"


@pytest.mark.parametrize("folder", CODE)
def test_our_modules_are_imported_by_their_installed_names(folder):
    """`import runtime` works only from the repository's root, and creates a second copy of every class."""
    for path in python_files(folder):
        bare = top_level(imports(path)) & set(PACKAGES)
        assert not bare, f"{relative(path)} imports {bare}; write iern.<name>"


def test_the_runtime_imports_nothing_heavier_than_numpy_opencv_and_onnxruntime():
    for path in python_files("runtime"):
        foreign = top_level(imports(path, at_run_time=True)) - set(sys.stdlib_module_names) - {"iern"}
        assert foreign <= RUNTIME_NEEDS, f"{relative(path)} imports {sorted(foreign - RUNTIME_NEEDS)}"


def test_every_runtime_module_can_be_imported_without_torch_and_similar_packages():
    modules = modules_of("runtime")
    assert {"iern.runtime.webcam", "iern.runtime.sources.live"} <= set(modules)
    program = textwrap.dedent(
        f"""
        import importlib, sys
        for name in {ABSENT_AT_RUN_TIME}:
            sys.modules[name] = None  # any import of it now raises ModuleNotFoundError
        for module in {modules}:
            importlib.import_module(module)
        imported = [name for name in sys.modules if name.startswith(("iern.train", "iern.export"))]
        assert not imported, imported
        """
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr


def group_of(dotted: str) -> str:
    """Import name -> its innermost folder, or the module itself if it is at the top of a package."""
    folder, rest = ROOT, dotted.removeprefix("iern.").split(".")
    while rest and (folder / rest[0]).is_dir():
        folder /= rest.pop(0)
    at_the_top = rest and folder.parent == ROOT and (folder / f"{rest[0]}.py").is_file()
    return relative(folder / f"{rest[0]}.py" if at_the_top else folder)


def imported_groups(package: str) -> dict[str, set[str]]:
    """Group (see `group_of`) -> the other groups of its package that it imports at run time."""
    found: dict[str, set[str]] = {}
    for path in python_files(package):
        if path == ROOT / package / "__init__.py":
            continue  # it re-exports names of the groups
        group = relative(path if path.parent == ROOT / package else path.parent)
        names = [name for name in imports(path, at_run_time=True) if name.startswith(("iern.", "benchmarks."))]
        others = {group_of(name) for name in names} - {group, package}
        found.setdefault(group, set()).update(other for other in others if other.startswith(package))
    return found


@pytest.mark.parametrize("package", MOST_IMPORTS)
def test_imports_between_the_folders_of_a_package_are_few_and_form_no_circle(package):
    below = imported_groups(package)
    assert sum(map(len, below.values())) <= MOST_IMPORTS[package]
    with contextlib.suppress(graphlib.CycleError):
        assert list(graphlib.TopologicalSorter(below).static_order())
        return
    circles = [group for group in below if group in reached(group, below)]
    pytest.fail(f"these import each other: {circles}")


def reached(start: str, below: dict[str, set[str]]) -> set[str]:
    """Every group that `start` imports, directly or through others."""
    found: set[str] = set()
    waiting = list(below.get(start, ()))
    while waiting:
        group = waiting.pop()
        if group not in found:
            found.add(group)
            waiting += below.get(group, ())
    return found


@pytest.mark.parametrize("package", [*CODE, "tests"])
def test_a_folder_of_code_has_few_files_and_more_than_one(package):
    numbers = Counter(path.parent for path in python_files(package) if path.name != "__init__.py")
    crowded = {relative(folder): count for folder, count in numbers.items() if count > MOST_FILES}
    assert not crowded
    if package != "tests":  # one file may hold all tests of a folder
        single = {relative(folder) for folder, count in numbers.items() if count == 1} - {package, "runtime/media"}
        assert not single


def test_nothing_but_tests_imports_from_the_tests():
    ours = {path.stem for path in (ROOT / "tests").iterdir()} - {"runtime", "train", "export", "cpp_ext", "benchmarks"}
    for path in python_files(*CODE):
        assert not top_level(imports(path)) & {"tests", *ours}, relative(path)
