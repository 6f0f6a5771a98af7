"""Each data set is read as its authors distribute it; the faces are read back from the manifest, pixel by pixel."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.errors import DataError
from iern.train.data.importers.write import DATA_SETS, import_faces
from iern.train.data.manifest import load_data
from iern.train.import_data import main

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Write a random picture without loss, whatever its name says -> (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return image


def imported(name: str, source: Path, out: Path, **options):
    """What became of a data set, and the faces as training reads them, by the name of the file."""
    found = import_faces(DATA_SETS[name], source, out, **options)
    faces = load_data(out, report=pytest.fail)
    return found, {face.path.name: face for face in faces.records}, faces.expressions


def labels(faces, expressions) -> dict[str, tuple[str, str]]:
    """File -> expression and split."""
    return {name: (expressions[face.expression], face.split) for name, face in faces.items()}


def rafdb(source: Path) -> Path:
    names = [f"train_0000{i}.jpg" for i in range(1, 8)] + ["test_0001.jpg"]
    (source / "basic" / "EmoLabel").mkdir(parents=True)
    text = "".join(f"{name} {i % 7 + 1}\n" for i, name in enumerate(names))
    (source / "basic" / "EmoLabel" / "list_patition_label.txt").write_text(text, encoding="utf-8")
    for i, name in enumerate(names):
        picture(source / "basic" / "Image" / "aligned" / name.replace(".jpg", "_aligned.jpg"), i, (100, 100))
    return source


RAFDB_ORDER = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")


@pytest.mark.parametrize("inside", [False, True], ids=["parent folder", "basic"])
def test_raf_db_is_read_by_its_list_and_its_images_stay_where_they_are(inside, tmp_path):
    source = rafdb(tmp_path / "RAF")
    found, faces, expressions = imported("rafdb", source / "basic" if inside else source, tmp_path / "out")
    expected = {f"train_0000{i + 1}_aligned.jpg": (name, "train") for i, name in enumerate(RAFDB_ORDER)}
    assert labels(faces, expressions) == {**expected, "test_0001_aligned.jpg": ("surprise", "test")}
    assert all(face.path.parent == source / "basic" / "Image" / "aligned" for face in faces.values())
    assert {face.confounder for face in faces.values()} == {"rafdb"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.csv"]
    assert found.faces[("surprise", "test")] == 1


def test_a_manifest_beside_its_images_names_them_relatively_so_that_the_folder_can_move(tmp_path):
    source = rafdb(tmp_path / "RAF")
    import_faces(DATA_SETS["rafdb"], source, source, confounder="web")
    shutil.move(source, tmp_path / "moved")
    faces = load_data(tmp_path / "moved").records
    assert len(faces) == 8 and {face.confounder for face in faces} == {"web"}


AFFECTNET_ORDER = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def affectnet_lists(source: Path, header: bool = True) -> Path:
    """The lists of 2017; its validation list without the line of names, as some copies have it."""
    columns = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    rows = {"training": [], "validation": []}
    for i in range(11):
        split = "validation" if i % 4 == 1 else "training"
        picture(source / "Manually_Annotated_Images" / f"{i % 3}" / f"{i}.jpg", i)
        rows[split].append(f"{i % 3}/{i}.jpg,1,2,30,30,1.5;2.5;3.5;4.5,{i},0.1,-0.2\n")
    lists = source / "Manually_Annotated_file_lists"
    lists.mkdir()
    (lists / "training.csv").write_text(columns + "".join(rows["training"]), encoding="utf-8")
    text = (columns if header else "") + "".join(rows["validation"])
    (lists / "validation.csv").write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize("header", [True, False])
def test_affectnet_is_read_by_its_lists_and_its_validation_faces_are_the_test(header, tmp_path):
    found, faces, expressions = imported(
        "affectnet", affectnet_lists(tmp_path / "A", header), tmp_path / "out", contempt=True
    )
    splits = ["test" if i % 4 == 1 else "train" for i in range(8)]
    assert labels(faces, expressions) == {f"{i}.jpg": (AFFECTNET_ORDER[i], splits[i]) for i in range(8)}
    assert set(found.left_out - Counter(missing=0)) == {"labelled none", "labelled uncertain", "labelled no face"}


def test_affectnet_is_read_by_a_file_for_each_label(tmp_path):
    source = tmp_path / "A"
    for i in range(9):
        split = source / ("val_set" if i >= 6 else "train_set")
        picture(split / "images" / f"{i}.jpg", i)
        (split / "annotations").mkdir(exist_ok=True)
        if i < 8:
            np.save(split / "annotations" / f"{i}_exp.npy", np.array(str(i)))  # text without a dimension
            np.save(split / "annotations" / f"{i}_val.npy", np.array("-0.5"))
    found, faces, expressions = imported("affectnet", source, tmp_path / "out")
    splits = ["test" if i >= 6 else "train" for i in range(7)]
    assert labels(faces, expressions) == {f"{i}.jpg": (AFFECTNET_ORDER[i], splits[i]) for i in range(7)}
    assert found.left_out["without a label"] == 1
    assert found.left_out["contempt, kept with --contempt"] == 1


def ckplus(source: Path) -> Path:
    """Two people; the second one's first sequence has no label; a file of a Mac in a folder of labels."""
    for subject, sequence, frames, code in (
        ("S005", "001", 4, 3), ("S005", "002", 3, 7), ("S010", "001", 2, None), ("S010", "002", 5, 2),
    ):  # fmt: skip
        label = source / "Emotion" / subject / sequence
        label.mkdir(parents=True)
        (label / ".DS_Store").write_bytes(b"\0")
        for i in range(1, frames + 1):
            picture(source / "cohn-kanade-images" / subject / sequence / f"{subject}_{sequence}_{i:08d}.png", i)
        if code:
            name = f"{subject}_{sequence}_{frames:08d}_emotion.txt"
            (label / name).write_text(f"   {code:.7e}\n", encoding="utf-8")
    return source


def test_ck_plus_gives_the_peak_of_each_labelled_sequence_and_one_neutral_frame_of_each_person(tmp_path):
    found, faces, expressions = imported("ckplus", ckplus(tmp_path / "CK"), tmp_path / "out", contempt=True)
    assert {name: label for name, (label, _) in labels(faces, expressions).items()} == {
        "S005_001_00000001.png": "neutral",
        "S005_001_00000004.png": "disgust",
        "S005_002_00000003.png": "surprise",
        "S010_002_00000001.png": "neutral",
        "S010_002_00000005.png": "contempt",
    }
    assert {face.subject for face in faces.values()} == {"S005", "S010"}
    assert found.left_out["sequences without a label"] == 1
    for subject in ("S005", "S010"):
        assert len({face.split for face in faces.values() if face.subject == subject}) == 1


EXPW_ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def expw(source: Path) -> Path:
    """A picture with two faces, and one with a box beyond its edge; the boxes are of one colour each."""
    first = np.zeros((200, 300, 3), np.uint8)
    first[40:80, 20:60], first[100:160, 200:260] = (0, 0, 255), (0, 255, 0)
    origin = source / "image" / "origin"
    origin.mkdir(parents=True)
    cv2.imwrite(str(origin / "angry_actor_1.png"), first)
    cv2.imwrite(str(origin / "happy_man_2.png"), np.full((100, 100, 3), 90, np.uint8))
    text = (
        "angry_actor_1.png 0 40 20 60 80 12.5 0\nangry_actor_1.png 1 100 200 260 160 30.1 6\n"
        "happy_man_2.png 0 80 -20 40 130 9.9 3\nhappy_man_2.png 0 80 -20 40 130 9.9 3\n"
        "happy_man_2.png 1 300 300 340 340 9.9 3\n"
    )
    (source / "label").mkdir()
    (source / "label" / "label.lst").write_text(text, encoding="utf-8")
    return source


def test_expw_cuts_each_face_out_of_its_picture(tmp_path):
    found, faces, expressions = imported("expw", expw(tmp_path / "ExpW"), tmp_path / "out")
    assert {name: label for name, (label, _) in labels(faces, expressions).items()} == {
        "angry_actor_1_0.jpg": "anger",
        "angry_actor_1_1.jpg": "neutral",
        "happy_man_2_0.jpg": "happiness",
    }
    red, green = (cv2.imread(str(faces[f"angry_actor_1_{i}.jpg"].path)) for i in (0, 1))
    for cut, side, colour in ((red, 40, (0, 0, 255)), (green, 60, (0, 255, 0))):
        assert cut.shape == (round(1.3 * side), round(1.3 * side), 3)
        inside = (np.abs(cut.astype(int) - colour) < 60).all(-1)
        assert inside.sum() == pytest.approx(side**2, rel=0.1)
        assert inside[cut.shape[0] // 2, cut.shape[1] // 2] and not inside[2, 2]
    assert faces["angry_actor_1_0.jpg"].split == faces["angry_actor_1_1.jpg"].split
    assert (found.left_out["listed twice"], found.left_out["box outside of the picture"]) == (1, 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["faces", "manifest.csv"]


def ferplus(source: Path) -> tuple[Path, np.ndarray]:
    """Six rows: clear, a tie, not a face, contempt, unknown, and clear with a minority; and their pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 48))
    usages = ("Training", "Training", "Training", "PublicTest", "PrivateTest", "PrivateTest")
    votes = [
        {"happiness": 10},
        {"happiness": 5, "neutral": 5},
        {"NF": 10},
        {"contempt": 6, "neutral": 4},
        {"unknown": 7, "fear": 3},
        {"fear": 5, "surprise": 3, "contempt": 2},
    ]
    source.mkdir()
    with open(source / "fer2013.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        writer.writerows([3, " ".join(map(str, pixels[i].ravel())), usages[i]] for i in range(6))
    with open(source / "fer2013new.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Usage", "Image name", *VOTES])
        for i in range(6):
            name = "" if "NF" in votes[i] else f"fer{i - (i > 2):07d}.png"  # the count leaves out what is no face
            writer.writerow([usages[i], name, *(votes[i].get(each, 0) for each in VOTES)])
    return source, pixels


def test_ferplus_writes_the_pixels_of_its_table_and_keeps_the_votes(tmp_path):
    source, pixels = ferplus(tmp_path / "FER")
    found, faces, expressions = imported("ferplus", source, tmp_path / "out")
    assert labels(faces, expressions) == {"fer0000000.png": ("happiness", "train"), "fer0000004.png": ("fear", "test")}
    for name, row in (("fer0000000.png", 0), ("fer0000004.png", 5)):
        read = cv2.imread(str(faces[name].path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read, pixels[row])
    assert found.left_out == {
        "a tie of the votes": 1,
        "without a name, which are no faces": 1,
        "voted unknown": 1,
        "contempt, kept with --contempt": 1,
        "missing": 0,
        "listed with two labels": 0,
    }
    soft = load_data(tmp_path / "out", ("fear", "happiness", "surprise")).records
    assert soft[1].target == (5 / 8, 0, 3 / 8)  # votes for contempt are no share
    assert [face.confirmed for face in soft] == [True, False]


def test_ferplus_is_read_from_the_later_table_of_kaggle_too(tmp_path):
    source, pixels = ferplus(tmp_path / "FER")
    with open(source / "fer2013.csv", encoding="utf-8") as file:
        rows = [[cells[0], cells[2], cells[1]] for cells in csv.reader(file)]
    (source / "fer2013.csv").unlink()
    with open(source / "icml_face_data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["emotion", " Usage", " pixels"], *rows[1:]])
    _, faces, _ = imported("ferplus", source, tmp_path / "out", contempt=True)
    assert set(faces) == {"fer0000000.png", "fer0000002.png", "fer0000004.png"}
    read = cv2.imread(str(faces["fer0000002.png"].path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, pixels[3])


def test_tables_of_another_order_are_refused_before_anything_is_written(tmp_path):
    source, _ = ferplus(tmp_path / "FER")
    table = source / "fer2013new.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    for wrong in (lines[:-1], [lines[0], *reversed(lines[1:])]):
        table.write_text("".join(wrong), encoding="utf-8")
        with pytest.raises(DataError, match=r"fer2013new\.csv: row \d is not of the face"):
            import_faces(DATA_SETS["ferplus"], source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["FER"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_another_layout_is_refused_with_what_is_expected_and_found(name, tmp_path):
    picture(tmp_path / "source" / "happy" / "1.png", 0)
    with pytest.raises(DataError, match=rf"{DATA_SETS[name].title.split()[0][:3]}.* as distributed has .*found happy"):
        import_faces(DATA_SETS[name], tmp_path / "source", tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        import_faces(DATA_SETS[name], tmp_path / "nowhere", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def spoil_rafdb(source):
    path = source / "basic" / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text(encoding="utf-8") + "train_00009.jpg 8\n", encoding="utf-8")
    return r"line 9: expected the number of an expression, 1 to 7, found '8'"


def spoil_ckplus(source):
    next((source / "Emotion").glob("*/*/*.txt")).write_text("happy", encoding="utf-8")
    return r"_emotion\.txt: expected the number of an expression.*'happy'"


def spoil_expw(source):
    path = source / "label" / "label.lst"
    path.write_text(path.read_text(encoding="utf-8").replace(" 30.1", ""), encoding="utf-8")
    return r"line 2: expected `image_name"


def spoil_ferplus(source):
    path = source / "fer2013.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(" 1", " 999", 1), encoding="utf-8")
    return r"fer2013\.csv line 2: expected 2304 grey values from 0 to 255"


@pytest.mark.parametrize(
    ("name", "make", "spoil"),
    [
        ("rafdb", rafdb, spoil_rafdb),
        ("ckplus", ckplus, spoil_ckplus),
        ("expw", expw, spoil_expw),
        ("ferplus", lambda source: ferplus(source)[0], spoil_ferplus),
    ],
)
def test_a_label_that_cannot_be_is_named_with_its_line_and_nothing_is_written(name, make, spoil, tmp_path):
    source = make(tmp_path / "source")
    expected = spoil(source)
    with pytest.raises(DataError, match=expected):
        import_faces(DATA_SETS[name], source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_listed_images_that_are_absent_are_an_error_or_left_out(tmp_path):
    source = rafdb(tmp_path / "RAF")
    (source / "basic" / "Image" / "aligned" / "train_00002_aligned.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 8 images .*missing, the first is .*train_00002_aligned.*--skip-missing"):
        import_faces(DATA_SETS["rafdb"], source, tmp_path / "out")
    found, faces, _ = imported("rafdb", source, tmp_path / "out", skip_missing=True)
    assert (len(faces), found.left_out["missing"]) == (7, 1)


def test_a_file_with_two_labels_is_left_out(tmp_path):
    source = affectnet_lists(tmp_path / "A")
    path = source / "Manually_Annotated_file_lists" / "training.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1].replace(",0,0.1", ",1,0.1")]), encoding="utf-8")
    found, faces, _ = imported("affectnet", source, tmp_path / "out", contempt=True)
    assert found.left_out["listed with two labels"] == 1
    assert "0.jpg" not in faces and len(faces) == 7


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    source = rafdb(tmp_path / "RAF")
    import_faces(DATA_SETS["rafdb"], source, tmp_path / "out")
    with pytest.raises(DataError, match=r"manifest\.csv exists"):
        import_faces(DATA_SETS["rafdb"], source, tmp_path / "out")
    other, _ = ferplus(tmp_path / "FER")
    with pytest.raises(DataError, match="holds files already"):
        import_faces(DATA_SETS["ferplus"], other, source)


def test_the_command_prints_the_counts_and_what_was_left_out(tmp_path, capsys):
    source = ckplus(tmp_path / "CK")
    assert main(["ckplus", str(source), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "disgust" in printed and "left out: 1 contempt, kept with --contempt" in printed
    assert f"wrote {tmp_path / 'out' / 'manifest.csv'}" in printed.replace("\n", "")
    assert main(["ckplus", str(tmp_path), "--out", str(tmp_path / "other")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "cohn-kanade-images" in error


def test_the_help_shows_the_layout_of_every_data_set(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for data_set in DATA_SETS.values():
        assert data_set.name in shown
        assert all(line in shown for line in data_set.layout.splitlines())
