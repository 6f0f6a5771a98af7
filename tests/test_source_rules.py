"""Rules that every source file keeps, checked on its syntax tree or its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from repository import CODE, calls, imports, python_files, relative, tracked_files

UNPICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HARMLESS = {"pickle.PickleError", "pickle.UnpicklingError"}
"""Exceptions that `torch.load` raises."""

# Written so that this file does not match itself.
PRIVATE = {
    "a folder of somebody's machine": re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.]|[A-Z]:\\Users\\"),
    "a folder outside the repository": re.compile(r"\.\./shared\b"),
    "a remark about how it was written": re.compile(r"\b(?:session|issue) #?\d", re.IGNORECASE),
}
UNCLEAR = re.compile(r"\b(?:an[e]w|hair's\s+breadth|who[e]ver|such\s+a\s+one|in\s+a\s+hurry)\b", re.IGNORECASE)
"""Words and idioms that a reader whose first language is not English reads twice."""
NOT_OURS_TO_REWORD = ("CHANGELOG.md", "benchmarks/results/")


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def opens_text(called: str, call: ast.Call) -> bool:
    """Whether a call reads or writes text, judging by its source alone. Ruff's PLW1514 also knows the types."""
    if called in ("open", "io.open", "os.fdopen"):
        mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 else ast.Constant("r"))
        return "b" not in ast.unparse(mode)
    return called.endswith((".read_text", ".write_text"))


@pytest.mark.parametrize("path", python_files(*CODE, "tests"), ids=relative)
def test_text_files_are_read_and_written_with_an_explicit_encoding(path):
    lines = [node.lineno for called, node in calls(path) if opens_text(called, node) and not keyword(node, "encoding")]
    assert not lines, f"lines {lines}"


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
def test_a_foreign_file_cannot_run_code_when_it_is_loaded(path):
    assert not {name for name in imports(path) - HARMLESS if name.split(".")[0] in UNPICKLERS}
    for called, node in calls(path):
        if called == "torch.load":
            assert is_true(keyword(node, "weights_only")), f"line {node.lineno}"
        assert not is_true(keyword(node, "allow_pickle")), f"line {node.lineno}"
        assert called not in ("eval", "exec"), f"line {node.lineno}"


def tracked_texts() -> Iterator[tuple[str, str]]:
    """The path and the content of every tracked text file."""
    for path in tracked_files():
        try:
            yield relative(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a model, an image or a clip


def test_no_tracked_text_mentions_the_machine_or_the_occasion_of_its_writing():
    found = [
        f"{name}: {what}: {match.group()!r}"
        for name, text in tracked_texts()
        for what, pattern in PRIVATE.items()
        for match in pattern.finditer(text)
    ]
    assert not found


def test_no_tracked_text_uses_words_that_have_to_be_read_twice():
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match.group().split())}"
        for name, text in tracked_texts()
        if not name.startswith(NOT_OURS_TO_REWORD)
        for match in UNCLEAR.finditer(text)
    ]
    assert not found
