"""No output overwrites an input or another output, however its path is spelled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iern.runtime.errors import OutputError
from iern.runtime.system.file_conflicts import refuse_conflicts


@pytest.fixture
def clip(tmp_path, monkeypatch) -> Path:
    """An input in the current folder, under its full path."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    return path


def symlink(clip: Path) -> Path:
    (clip.parent / "link.mp4").symlink_to(clip.name)
    return clip.parent / "link.mp4"


def hard_link(clip: Path) -> Path:
    os.link(clip, clip.parent / "same.mp4")
    return clip.parent / "same.mp4"


def through_a_linked_folder(clip: Path) -> Path:
    (clip.parent / "folder").symlink_to(".")
    return clip.parent / "folder" / clip.name


SPELLINGS = {
    "itself": lambda clip: clip,
    "relative": lambda clip: Path(clip.name),
    "dots": lambda clip: clip.parent / ".." / clip.parent.name / clip.name,
    "symlink": symlink,
    "hard link": hard_link,
    "linked folder": through_a_linked_folder,
}
spelled = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)


@spelled
def test_an_output_that_is_an_input_is_refused_with_both_names(clip, spell):
    output = spell(clip)
    for many in (clip, [clip.parent / "other.mp4", clip]):
        with pytest.raises(OutputError) as refusal:
            refuse_conflicts({"--model": clip.parent / "m.onnx", "--source": many}, {"--record": output})
        assert str(refusal.value).startswith(f"{output}: --record would overwrite --source")
    refuse_conflicts({"--source": clip}, {"--record": clip.parent / "new.mp4", "--csv": None})


@spelled
@pytest.mark.parametrize("exists", [True, False])
def test_two_outputs_that_are_one_file_are_refused_whether_it_exists_or_not(clip, spell, exists):
    if not exists:
        clip.unlink()
        if spell is hard_link:
            return
    with pytest.raises(OutputError, match=r"--jsonl and --csv would write the same file"):
        refuse_conflicts({}, {"--jsonl": clip, "--summary": None, "--csv": spell(clip)})


def test_a_broken_link_is_the_file_that_it_would_make(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "later" / "out.txt")
    with pytest.raises(OutputError, match="the same file"):
        refuse_conflicts({}, {"--jsonl": tmp_path / "link", "--csv": tmp_path / "later" / "out.txt"})


def test_other_letters_are_another_file_only_if_the_file_system_says_so(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    outputs = {"--jsonl": folder / "out.txt", "--csv": folder / "OUT.TXT"}
    if (tmp_path / "FOLDER").exists():
        with pytest.raises(OutputError, match="the same file"):
            refuse_conflicts({}, outputs)
    else:
        refuse_conflicts({}, outputs)


def test_a_new_file_in_an_input_folder_is_allowed_and_one_over_its_image_is_not(tmp_path):
    image = tmp_path / "photos" / "a.png"
    image.parent.mkdir()
    image.write_bytes(b"old")
    refuse_conflicts({"--source": [image]}, {"--still": image.with_name("new.png")})
    with pytest.raises(OutputError, match=r"--still would overwrite --source; choose another name"):
        refuse_conflicts({"--source": [image]}, {"--still": image})


def test_an_output_inside_a_folder_that_another_output_replaces_is_refused(tmp_path):
    for folder in (tmp_path / "faces", tmp_path):
        with pytest.raises(OutputError, match=r"--sheet would be inside .*, which OUT writes"):
            refuse_conflicts({}, {"OUT": folder, "--sheet": tmp_path / "faces" / "sheet.png"})
    refuse_conflicts({}, {"OUT": tmp_path / "faces", "--sheet": tmp_path / "faces.png"})


def test_paths_under_one_name_and_devices_are_not_compared(tmp_path):
    refuse_conflicts({}, {"the results": [tmp_path / "a", tmp_path / "a"]})
    refuse_conflicts({"--source": Path(os.devnull)}, {"--jsonl": Path(os.devnull), "--csv": Path(os.devnull)})


def test_many_inputs_are_not_looked_at_before_an_output_exists(tmp_path):
    def images() -> Iterator[Path]:
        raise AssertionError("a folder of a million images would be read")
        yield

    refuse_conflicts({"--data": images()}, {"--json": tmp_path / "new.json"})
