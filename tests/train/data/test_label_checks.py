"""What would be misread in labels without a word is an error, and what systems leave among pictures is left out."""

from pathlib import Path

import pytest

from doubles.face_folder import write_image, write_manifest
from iern.runtime.errors import DataError
from iern.train.data.manifest import load_data

ROW = {"path": "0.png", "expression": "happy", "confounder": "web"}


def manifest(root: Path, *rows: dict[str, str]) -> Path:
    """A manifest of rows that differ from ROW, and their pictures."""
    complete = [{**ROW, **row} for row in rows]
    for row in complete:
        write_image(root / row["path"], 0)
    return write_manifest(root, complete)


def text(root: Path, content: str) -> Path:
    """A manifest with this text, and the picture of ROW."""
    write_image(root / ROW["path"], 0)
    (root / "manifest.csv").write_text(content, encoding="utf-8")
    return root


# --- splits ---


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("dev", "VAL")])
def test_folders_named_for_splits_are_refused_as_strata_and_the_right_layout_is_shown(tmp_path, train, test):
    for top in (train, test, "web"):
        write_image(tmp_path / top / "1" / "a.png", 0)
    with pytest.raises(DataError, match=rf"top folder .*{train}.*<confounder>/<expression>/.*manifest\.csv") as caught:
        load_data(tmp_path)
    assert test in str(caught.value)
    assert "web," not in str(caught.value)


@pytest.mark.parametrize("name", ["train", "Test", " val", "VALID", "validation", "dev", "training", "testing"])
def test_a_confounder_named_for_a_split_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=rf"the confounder {name} is the name of a split"):
        load_data(manifest(tmp_path, {}, {"path": "1.png", "confounder": name}))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("train", "train"), ("Training", "train"), ("", "train"), (" ", "train"), ("valid", "valid"), ("val", "valid"),
        ("Validation", "valid"), ("DEV", "valid"), (" test ", "test"), ("testing", "test"), ("ood", "ood"),
    ],
)  # fmt: skip
def test_splits_are_known_by_all_their_names(tmp_path, written, read):
    assert [face.split for face in load_data(manifest(tmp_path, {"split": written})).records] == [read]


@pytest.mark.parametrize("written", ["tset", "holdout", "0"])
def test_an_unknown_split_is_refused_with_its_line_and_the_known_names(tmp_path, written):
    with pytest.raises(DataError, match=rf"line 3: unknown split '{written}'; known are train.*val.*dev.*test"):
        load_data(manifest(tmp_path, {"split": "train"}, {"path": "1.png", "split": written}))


# --- columns ---


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("spilt", "split"), ("Split", "split"), (" split", "split"), ("subjct", "subject"), ("subject_id", "subject"),
        ("expresion", "expression"), ("confunder", "confounder"), ("Path", "path"),
    ],
)  # fmt: skip
def test_a_misspelt_column_is_named_with_the_right_one(tmp_path, column, meant):
    row = {(column if key == meant else key): value for key, value in ROW.items()} | {column: "x"}
    with pytest.raises(DataError, match=rf"unknown column '{column}'; did you mean '{meant}'\?"):
        load_data(write_manifest(tmp_path, [row]))


def test_other_columns_are_allowed(tmp_path):
    columns = dict.fromkeys(("contempt", "sad", "object", "age", "source", ""), "1")
    assert load_data(manifest(tmp_path, columns), ["happy"]).records[0].target == (1.0,)


@pytest.mark.parametrize("column", ["Happy", "happy "])
def test_votes_whose_column_is_an_expression_in_another_spelling_are_not_dropped(tmp_path, column):
    root = manifest(tmp_path, {column: "3", "sad": "9"})
    with pytest.raises(DataError, match=rf"the column '{column}' is not the expression 'happy'"):
        load_data(root, ["happy", "sad"])
    assert load_data(root, ["happy", "sad"], votes=False).records[0].target == (1.0, 0.0)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="the column expression is there twice"):
        load_data(text(tmp_path, "path,expression,confounder,expression\n0.png,happy,web,sad\n"))


# --- rows ---


def test_empty_rows_and_comments_are_skipped_before_and_after_the_header(tmp_path):
    write_image(tmp_path / "#1.png", 0)
    content = (
        "# faces\n\npath,expression,confounder\n# web, all\n\n0.png,happy,web\n,,\n#2.png,sad,web\n#1.png,sad,web\n"
    )
    assert [face.path.name for face in load_data(text(tmp_path, content)).records] == ["0.png", "#1.png"]


@pytest.mark.parametrize("row", ["0.png", "0.png,happy", "0.png,happy,web"])
def test_a_short_row_is_refused_with_its_line(tmp_path, row):
    with pytest.raises(DataError, match=rf"manifest\.csv line 2: {row.count(',') + 1} fields, expected 4"):
        load_data(text(tmp_path, f"path,expression,confounder,split\n{row}\n"))


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
def test_a_manifest_without_a_header_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"manifest\.csv: is empty; expected a line with the columns path"):
        load_data(text(tmp_path, content))


# --- one file, one row ---


@pytest.mark.parametrize(
    ("differing", "named"),
    [
        ({"split": "test"}, "split"),
        ({"expression": "sad"}, "expression and votes"),
        ({"confounder": "film"}, "confounder"),
        ({"subject": "anna"}, "subject"),
        ({"path": "./a/../0.png", "split": "test"}, "split"),
    ],
)
def test_a_file_in_two_splits_or_under_two_labels_is_refused(tmp_path, differing, named):
    root = manifest(tmp_path, {"split": "train", "subject": ""}, differing)
    with pytest.raises(DataError, match=rf"line 3: .*0\.png is listed already \(.*line 2\) with other {named};"):
        load_data(root)


def test_repeated_rows_are_counted_and_used_once(tmp_path, capsys):
    root = manifest(tmp_path, {}, {"path": "1.png"}, {}, {"path": "./0.png"})
    lines: list[str] = []
    assert [face.path.name for face in load_data(root, report=lines.append).records] == ["0.png", "1.png"]
    assert lines == [f"{root / 'manifest.csv'}: 2 rows repeat an earlier one, and are left out"]
    load_data(root)
    assert capsys.readouterr().err.splitlines() == lines


# --- names ---


@pytest.mark.parametrize("kind", ["expression", "confounder"])
def test_a_name_in_two_spellings_is_refused(tmp_path, kind):
    rows = [{"path": f"{i}.png", kind: name} for i, name in enumerate(("joy", "Joy", "joy ", "sad"))]
    with pytest.raises(DataError, match=rf"one {kind} has several names: 'Joy' and 'joy' and 'joy '; spell it"):
        load_data(manifest(tmp_path, *rows))


def test_expression_folders_in_two_spellings_are_refused(tmp_path):
    for name in ("happy", "Happy"):
        write_image(tmp_path / "web" / name / "a.png", 0)
    with pytest.raises(DataError, match="one expression has several names: 'Happy' and 'happy'"):
        load_data(tmp_path)


def test_what_systems_and_editors_leave_among_pictures_is_left_out(tmp_path):
    write_image(tmp_path / "web" / "happy" / "a.png", 0)
    for left in (
        ".ipynb_checkpoints/happy/a.png", "web/.ipynb_checkpoints/a-checkpoint.png", "web/@eaDir/a.png/thumb.png",
        "@eaDir/happy/a.png", "__MACOSX/web/happy/a.png", "web/happy/._a.png", "web/happy/@eaDir/a.png",
        "web/happy/Thumbs.db/a.png", ".DS_Store/x/a.png",
    ):  # fmt: skip
        write_image(tmp_path / left, 0)
    data = load_data(tmp_path)
    assert [face.path for face in data.records] == [tmp_path / "web" / "happy" / "a.png"]
    assert data.expressions == ("happy",)
