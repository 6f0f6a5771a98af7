"""A damaged model file is refused: its own checksum says so, where its answers would not."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.checksum import DIGITS, KEY, check_content, with_checksum
from iern.runtime.errors import ArtifactError


def weights_at(content: bytes) -> int:
    """A place inside the largest tensor of a file, whose bytes may take any value."""
    tensors = [tensor.raw_data for tensor in onnx.load_from_string(content).graph.initializer]
    largest = max(tensors, key=len)
    return content.index(largest) + len(largest) // 2


def test_a_checksum_is_that_of_the_file_with_zeros_in_its_place():
    content = with_checksum(tiny_model())
    (entry,) = [entry for entry in onnx.load_from_string(content).metadata_props if entry.key == KEY.decode()]
    assert content.count(entry.value.encode()) == 1
    zeroed = content.replace(entry.value.encode(), bytes(DIGITS))
    assert entry.value == hashlib.sha256(zeroed).hexdigest()
    check_content(content, "whole.onnx")


def test_a_second_checksum_replaces_the_first_and_changes_nothing_else():
    content = tiny_model()
    once = with_checksum(content)
    assert once.startswith(content)
    assert with_checksum(once) == once


def test_a_file_without_a_checksum_is_not_checked():
    check_content(tiny_model(), "older.onnx")
    check_content(b"", "empty.onnx")


@pytest.mark.parametrize("where", ["weights", "first", "digits", "last"])
def test_flipped_bytes_in_a_model_are_refused_when_it_opens(tmp_path, where):
    content = bytearray(with_checksum(tiny_model()))
    at = {"weights": weights_at(bytes(content)), "first": 0, "digits": len(content) - 30, "last": len(content) - 1}[
        where
    ]
    content[at] ^= 1
    path = tmp_path / "flipped.onnx"
    path.write_bytes(content)
    for model in (path, bytes(content)):
        with pytest.raises(ArtifactError, match=r"damaged|cannot load|no iern"):
            open_session(model)


def test_four_flipped_bytes_in_the_bundled_model_are_refused_although_it_would_answer(tmp_path):
    content = bytearray(MODEL.read_bytes())
    at = weights_at(bytes(content))
    for offset in range(4):
        content[at + 4 * offset] ^= 1 << offset
    path = tmp_path / "flipped.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"flipped\.onnx: is damaged: .*copy it again"):
        open_session(path)


def test_a_whole_file_answers(tmp_path):
    path = tmp_path / "whole.onnx"
    path.write_bytes(with_checksum(tiny_model()))
    with open_session(path) as session:
        assert session(np.zeros((1, *session.artifact.input.shape), np.uint8)).probabilities.shape == (1, 3)
