"""Rules that every source file keeps, checked on its syntax tree or its text."""

from __future__ import annotations

import ast
import re

import pytest

from repository import CODE, ROOT, calls, imports, python_files, relative, tracked_files

UNPICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HARMLESS = {"pickle.PickleError", "pickle.UnpicklingError"}
"""What `torch.load` raises."""

# Written so that this file does not match itself.
PRIVATE = {
    "a folder of somebody's machine": re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.]|[A-Z]:\\Users\\"),
    "a folder outside the repository": re.compile(r"\.\./shared\b"),
    "a remark about how it was written": re.compile(r"\b(?:session|issue) #?\d", re.IGNORECASE),
}


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def opens_text(called: str, call: ast.Call) -> bool:
    """Whether a call reads or writes text, as far as its own words tell: ruff's PLW1514 knows the types as well."""
    if called in ("open", "io.open", "os.fdopen"):
        mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 else ast.Constant("r"))
        return "b" not in ast.unparse(mode)
    return called.endswith((".read_text", ".write_text"))


@pytest.mark.parametrize("path", python_files(*CODE, "tests"), ids=relative)
def test_text_files_are_read_and_written_with_an_explicit_encoding(path):
    unsaid = [node.lineno for called, node in calls(path) if opens_text(called, node) and not keyword(node, "encoding")]
    assert not unsaid, f"lines {unsaid}"


@pytest.mark.parametrize("path", python_files(*CODE, "tests"), ids=relative)
def test_the_output_of_other_programs_is_not_decoded_by_the_locale(path):
    by_locale = [
        node.lineno
        for called, node in calls(path)
        if called.startswith("subprocess.")
        and (is_true(keyword(node, "text")) or is_true(keyword(node, "universal_newlines")))
        and not keyword(node, "encoding")
    ]
    assert not by_locale, f"lines {by_locale}: encoding='utf-8' instead of text=True"


@pytest.mark.parametrize("path", python_files(*CODE), ids=relative)
def test_a_file_of_somebody_else_cannot_run_code_when_it_is_loaded(path):
    assert not {name for name in imports(path) - HARMLESS if name.split(".")[0] in UNPICKLERS}
    for called, node in calls(path):
        if called == "torch.load":
            assert is_true(keyword(node, "weights_only")), f"line {node.lineno}"
        assert not is_true(keyword(node, "allow_pickle")), f"line {node.lineno}"
        assert called not in ("eval", "exec"), f"line {node.lineno}"


def test_no_tracked_text_speaks_of_the_machine_or_the_occasion_it_was_written_on():
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a model, an image or a clip
        for what, pattern in PRIVATE.items():
            found += [f"{path.relative_to(ROOT)}: {what}: {match.group()!r}" for match in pattern.finditer(text)]
    assert not found
