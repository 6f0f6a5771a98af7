"""Manifests and folders, soft targets, the validation cut, and the order of the faces in a training run."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from doubles.face_folder import write_faces, write_image, write_manifest
from iern.runtime.errors import DataError
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, crop_face, resize_face
from iern.train.data.augment import Augmentation, CropJitter, augmentation
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import FaceData, LabelledFace, check_trainable, cut_validation, load_data, verify_images
from iern.train.data.sampler import EpochBatches, ProcessRank

SPEC = InputSpec(size=32)


def folder(root, *rows, **common):
    """A manifest of the rows, each with its own picture `<number>.png` unless it names one."""
    complete = []
    for i, row in enumerate(rows):
        path = row.get("path", f"{i}.png")
        write_image(root / path, i)
        complete.append({"path": path, "expression": "happy", "confounder": "web", **common, **row})
    return write_manifest(root, complete)


def record(name, expression=0, confounder="web", subject=""):
    target = tuple(float(i == expression) for i in range(3))
    return LabelledFace(Path(name), expression, target, confounder, "train", subject)


def data_of(records):
    return FaceData(Path("faces"), ("happy", "neutral", "sad"), tuple(records))


# --- reading ---


def test_a_manifest_gives_its_labels_splits_and_subjects(tmp_path):
    root = folder(
        tmp_path,
        {"expression": "sad", "confounder": "film", "split": "test", "subject": "anna"},
        {"split": "train", "subject": ""},
        {"split": "", "subject": ""},
    )
    data = load_data(root)
    assert data.expressions == ("happy", "sad")
    assert [(r.expression, r.confounder, r.split, r.subject) for r in data.records] == [
        (1, "film", "test", "anna"),
        (0, "web", "train", ""),
        (0, "web", "train", ""),
    ]
    assert data.records[0].path == root / "0.png"
    assert data.records[0].target == (0.0, 1.0)


def test_strata_are_those_of_the_training_split(tmp_path):
    root = folder(tmp_path, {"confounder": "web", "split": "train"}, {"confounder": "phone", "split": "test"})
    assert load_data(root).strata == ("web",)


def test_folders_are_read_as_confounder_and_expression_with_any_folders_below(tmp_path):
    for i in range(40):
        write_image(tmp_path / ("film" if i % 2 else "web") / ("happy" if i % 4 < 2 else "sad") / f"a/{i}.png", i)
    (tmp_path / "web" / "happy" / "notes.txt").write_text("no face", encoding="utf-8")
    data = load_data(tmp_path)
    assert len(data.records) == 40
    for found in data.records:
        confounder, expression = found.path.relative_to(tmp_path).parts[:2]
        assert (found.confounder, data.expressions[found.expression]) == (confounder, expression)
    assert {r.split for r in data.records} == {"train", "test"}
    assert [r.split for r in load_data(tmp_path).records] == [r.split for r in data.records]


def test_votes_become_a_distribution_over_the_expressions_of_the_network_only(tmp_path):
    root = folder(tmp_path, {"happy": "6", "sad": "2", "contempt": "12"})
    assert load_data(root, ["sad", "neutral", "happy"]).records[0].target == (0.25, 0.0, 0.75)


@pytest.mark.parametrize("votes", [{"happy": "0", "sad": "0"}, {"happy": "", "sad": ""}])
def test_a_face_without_votes_has_its_label_as_target(tmp_path, votes):
    root = folder(tmp_path, {"expression": "sad", **votes}, {"expression": "happy", "happy": "1", "sad": "3"})
    data = load_data(root)
    assert data.records[0].target == (0.0, 1.0)
    assert data.records[1].target == (0.25, 0.75)


def test_votes_can_be_ignored(tmp_path):
    assert load_data(folder(tmp_path, {"happy": "1", "sad": "9"}), ["happy", "sad"], votes=False).records[0].target == (
        1.0,
        0.0,
    )


@pytest.mark.parametrize(
    ("votes", "confirmed"),
    [
        ({"happy": "6", "sad": "4"}, True),
        ({"happy": "5", "sad": "5"}, False),
        ({"happy": "4", "sad": "3", "neutral": "2"}, False),
        ({"happy": "4", "sad": "3", "neutral": "1", "contempt": "1", "unknown": "1"}, True),
        ({"happy": "4", "unknown": "5"}, False),
        ({"happy": "4", "NF": "4"}, False),
        ({"happy": "1", "sad": "9"}, False),
        ({"happy": "1", "sad": "1"}, False),
        ({"happy": "", "sad": "0"}, None),
    ],
)
def test_a_label_is_confirmed_by_more_than_half_of_the_votes_without_single_ones(tmp_path, votes, confirmed):
    columns = dict.fromkeys(("happy", "sad", "neutral", "contempt", "unknown", "NF"), "0")
    root = folder(tmp_path, {**columns, **votes})
    assert load_data(root, ["happy", "neutral", "sad"]).records[0].confirmed is confirmed
    assert load_data(root, ["happy", "neutral", "sad"], votes=False).records[0].confirmed is None


@pytest.mark.parametrize("votes", ["0,5", "a few", "-1", "nan", "inf"])
def test_votes_that_are_not_counts_are_refused_with_their_line(tmp_path, votes):
    root = folder(tmp_path, {"happy": "1"}, {"happy": votes})
    with pytest.raises(DataError, match=r"manifest\.csv line 3: vote counts"):
        load_data(root)


def test_an_unquoted_decimal_comma_does_not_shift_the_columns(tmp_path):
    write_image(tmp_path / "0.png", 0)
    text = "path,expression,confounder,happy,sad\n0.png,happy,web,0,5,0,5\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv line 2: more fields than columns.*decimal point"):
        load_data(tmp_path)


def test_a_manifest_with_semicolons_is_refused_with_what_was_found(tmp_path):
    (tmp_path / "manifest.csv").write_text("path;expression;confounder\n0.png;happy;web\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv: no column path.*path;expression;confounder"):
        load_data(tmp_path)


def test_a_byte_order_mark_and_names_in_any_script_are_read(tmp_path):
    write_image(tmp_path / "лицо.png", 0)
    write_manifest(tmp_path, [{"path": "лицо.png", "expression": "freude", "confounder": "küche"}], "utf-8-sig")
    found = load_data(tmp_path).records[0]
    assert (found.path.name, found.confounder) == ("лицо.png", "küche")


def test_a_manifest_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_bytes("path,expression,confounder\nä.png,happy,web\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest\.csv: not a UTF-8 CSV file"):
        load_data(tmp_path)


def test_an_unknown_label_is_refused_with_its_file_and_the_known_ones(tmp_path):
    root = folder(tmp_path, {"path": "odd.png", "expression": "smug"})
    with pytest.raises(DataError, match=r"line 2: odd\.png has the expression 'smug', the model knows happy, sad"):
        load_data(root, ["happy", "sad"])


def test_a_missing_image_is_named(tmp_path):
    root = folder(tmp_path, {}, {})
    (root / "1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing, the first is .*1\.png"):
        load_data(root)


def test_a_missing_column_is_named(tmp_path):
    write_manifest(tmp_path, [{"path": "0.png", "expression": "happy"}])
    with pytest.raises(DataError, match=r"no column confounder; found \['path', 'expression'\]"):
        load_data(tmp_path)


@pytest.mark.parametrize("column", ["path", "expression", "confounder"])
def test_an_empty_field_is_refused_with_its_line(tmp_path, column):
    write_manifest(tmp_path, [{"path": "0.png", "expression": "happy", "confounder": "web", column: ""}])
    with pytest.raises(DataError, match=r"line 2: .*must not be empty"):
        load_data(tmp_path)


def test_an_empty_folder_and_a_missing_one_are_errors(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_data(tmp_path / "absent")
    with pytest.raises(DataError, match="no images"):
        load_data(tmp_path)


def test_an_empty_split_is_refused_and_the_others_are_named(tmp_path):
    data = load_data(folder(tmp_path, {}, {}))
    assert len(data.split("all")) == 2
    with pytest.raises(DataError, match=r"the split 'test' has no images; found \{'train': 2\}"):
        data.split("test")


def test_corrupt_images_are_named(tmp_path):
    root = folder(tmp_path, {}, {}, {})
    (root / "1.png").write_bytes(b"")
    (root / "2.png").write_bytes(b"not a picture")
    records = load_data(root).records
    verify_images(records[:1])
    with pytest.raises(DataError, match=r"2 of 3 images cannot be read(.|\n)*1\.png(.|\n)*2\.png"):
        verify_images(records)


# --- what can be trained on ---


def test_data_of_one_stratum_is_refused_with_the_alternatives():
    with pytest.raises(DataError, match=r"confounder 'web'.*--model.method baseline"):
        check_trainable([record("a"), record("b", 1)], ["web"], ["happy", "neutral"], "faces")
    check_trainable([record("a"), record("b", 1)], [], ["happy", "neutral"], "faces")  # strata that training draws


def test_a_stratum_or_expression_without_training_images_is_named():
    training = [record("a", 0, "web"), record("b", 0, "film")]
    check_trainable(training, ["film", "web"], ["happy"], "faces")
    with pytest.raises(DataError, match="no training image of phone, neutral"):
        check_trainable(training, ["film", "phone", "web"], ["happy", "neutral"], "faces")


# --- the validation cut ---


def many_records(subjects=False):
    return [
        record(f"{e}{c}{i}", e, c, f"person {i % 10}" if subjects else "")
        for e in range(3)
        for c in ("film", "web")
        for i in range(20 + 7 * e)
    ]


@pytest.mark.parametrize("subjects", [False, True])
def test_the_validation_cut_has_its_size_and_every_cell_is_on_both_sides(subjects):
    data = data_of(many_records(subjects))
    training, validation = cut_validation(data, 0.2, seed=0)
    assert sorted(r.path for r in training + validation) == sorted(r.path for r in data.records)
    for side, share in ((training, 0.8), (validation, 0.2)):
        sizes = Counter((r.expression, r.confounder) for r in side)
        assert len(sizes) == 6
        for (expression, _), size in sizes.items():
            assert size == pytest.approx(share * (20 + 7 * expression), abs=3)


def test_no_subject_is_on_both_sides_of_the_validation_cut():
    training, validation = cut_validation(data_of(many_records(subjects=True)), 0.2, seed=0)
    assert not {r.subject for r in training} & {r.subject for r in validation}


def test_a_cell_with_one_subject_stays_in_training():
    alone = [record(f"alone{i}", 0, "film", "anna") for i in range(20)]
    training, validation = cut_validation(data_of([*alone, *(record(f"{i}", 1) for i in range(20))]), 0.1, seed=0)
    assert [r.path for r in training if r.confounder == "film"] == [r.path for r in alone]
    assert len(validation) == 2


def test_the_validation_cut_depends_on_the_seed_and_on_nothing_else():
    records = many_records()
    first = {r.path for r in cut_validation(data_of(records), 0.2, seed=0)[1]}
    assert {r.path for r in cut_validation(data_of(records[::-1]), 0.2, seed=0)[1]} == first
    assert {r.path for r in cut_validation(data_of(records), 0.2, seed=1)[1]} != first


def test_the_validation_cut_does_not_depend_on_the_place_of_the_data(tmp_path):
    held = []
    for place in ("here", "there"):
        _, validation = cut_validation(load_data(write_faces(tmp_path / place, 30)), 0.2, seed=0)
        held.append([r.path.name for r in validation])
    assert held[0] == held[1]
    assert held[0]


def test_a_validation_split_of_the_manifest_is_used_as_it_is(tmp_path):
    root = folder(tmp_path, *({"split": s} for s in ("train", "valid", "train", "test")))
    training, validation = cut_validation(load_data(root), 0.5, seed=0)
    assert [r.path.name for r in training] == ["0.png", "2.png"]
    assert [r.path.name for r in validation] == ["1.png"]


def test_a_share_of_0_leaves_all_faces_to_training():
    assert cut_validation(data_of(many_records()), 0.0, seed=0)[1] == []


# --- the order ---

SIZES = [(10, 4, 1), (9, 4, 1), (2, 8, 1), (12, 4, 2), (11, 3, 2), (13, 2, 3), (7, 2, 3)]


@pytest.mark.parametrize(("images", "batch_size", "processes"), SIZES)
def test_every_image_comes_once_an_epoch_and_all_processes_have_equally_many_batches(images, batch_size, processes):
    batches = [list(EpochBatches(images, batch_size, 0, ProcessRank(rank, processes))) for rank in range(processes)]
    seen = Counter(index for own in batches for batch in own for index in batch)
    assert set(seen) == set(range(images))
    # Where the processes do not divide the images, the first of the order fill up.
    assert sum(seen.values()) == -(-images // processes) * processes
    assert max(seen.values()) <= 2
    assert {len(own) for own in batches} == {len(EpochBatches(images, batch_size, 0, ProcessRank(0, processes)))}
    assert all(2 <= len(batch) <= batch_size + 1 for own in batches for batch in own)


@pytest.mark.parametrize(("images", "batch_size", "processes"), SIZES)
def test_an_epoch_resumed_in_its_middle_continues_with_the_remaining_batches(images, batch_size, processes):
    for rank in range(processes):
        batches = EpochBatches(images, batch_size, 5, ProcessRank(rank, processes))
        batches.epoch = 3
        whole = list(batches)
        for start in range(len(whole) + 1):
            batches.start = start
            assert list(batches) == whole[start:]


def test_the_order_changes_with_the_epoch_and_the_seed():
    def order(seed, epoch):
        batches = EpochBatches(50, 5, seed)
        batches.epoch = epoch
        return list(batches)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize(("images", "batch_size", "processes"), [(1, 8, 1), (3, 2, 2), (10, 1, 1)])
def test_a_process_with_one_image_or_batches_of_one_are_refused(images, batch_size, processes):
    with pytest.raises(DataError, match="at least 2 images and a batch size of at least 2"):
        EpochBatches(images, batch_size, 0, ProcessRank(0, processes))


# --- samples ---


def samples(dataset, order, workers=0):
    loader = DataLoader(dataset, batch_sampler=[order[:3], order[3:]], num_workers=workers)
    return {int(i): face for faces, _, _, index in loader for face, i in zip(faces, index, strict=True)}


@pytest.mark.parametrize("augment", ["paper", "webcam"])
def test_a_sample_does_not_depend_on_order_worker_or_generator_state(tmp_path, augment):
    records = load_data(write_faces(tmp_path, 6)).records
    dataset = FaceDataset(records, SPEC, ("film", "web"), RandomChanges(augmentation(augment, 32), seed=4))
    torch.manual_seed(1)
    one = samples(dataset, [0, 1, 2, 3, 4, 5])
    torch.manual_seed(2)
    for other in (samples(dataset, [5, 3, 1, 0, 2, 4]), samples(dataset, [4, 5, 0, 2, 1, 3], workers=2)):
        assert all(torch.equal(one[i], other[i]) for i in range(6))
    dataset.epoch = 1
    assert not any(torch.equal(one[i], face) for i, face in samples(dataset, [0, 1, 2, 3, 4, 5]).items())


def test_a_sample_does_not_move_the_generator_that_training_draws_from(tmp_path):
    records = load_data(write_faces(tmp_path, 6)).records
    dataset = FaceDataset(records, SPEC, ("film", "web"), RandomChanges(augmentation("paper", 32)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_is_cut_as_the_runtime_cuts_it_where_a_face_was_found(tmp_path):
    root = folder(tmp_path, {}, {})
    records = load_data(root).records
    spec = InputSpec(size=32, margin=0.9, alignment="landmarks")
    landmarks = np.array([[10.0, 12.0], [18.0, 12.0], [14.0, 16.0], [11.0, 20.0], [17.0, 20.0]])
    found = Detection(6, 6, 16, 20, 1.8 * landmarks, 0.9)
    dataset = FaceDataset(records, spec, ("film", "web"), detections=[found, None])
    image = read_image(root / "0.png")
    np.testing.assert_array_equal(dataset[0][0].numpy(), crop_face(image, found, spec))
    np.testing.assert_array_equal(dataset[1][0].numpy(), resize_face(read_image(root / "1.png"), spec))
    drawn = FaceDataset(records, spec, ("film", "web"), detections=[found, None], whole=0.5)
    whole = 0
    for drawn.epoch in range(60):
        face = drawn[0][0].numpy()
        whole += np.array_equal(face, resize_face(image, spec))
        assert np.array_equal(face, resize_face(image, spec)) or np.array_equal(face, crop_face(image, found, spec))
    assert 15 <= whole <= 45  # 30 +- 3.9


def test_a_face_of_a_portrait_is_always_cut_out(tmp_path):
    root = folder(tmp_path, {}, {})
    records, spec = load_data(root).records, InputSpec(size=32, margin=1.0)
    image = read_image(root / "0.png")
    side = 0.5 * min(image.shape[:2])
    found = Detection(2, 2, side, side, np.zeros((5, 2)), 0.9)
    dataset = FaceDataset(records, spec, ("film", "web"), detections=[found, None], whole=0.9)
    for dataset.epoch in range(20):
        np.testing.assert_array_equal(dataset[0][0].numpy(), crop_face(image, found, spec))


def test_a_jittered_sample_shows_the_part_of_the_image_that_its_square_covers(tmp_path):
    records = load_data(folder(tmp_path, {}, {})).records
    image = resize_face(read_image(records[0].path), SPEC)
    changes = RandomChanges(Augmentation(CropJitter(turn=0, scale=1.0, shift=0.0)))
    np.testing.assert_array_equal(FaceDataset(records, SPEC, (), changes)[0][0].numpy(), image)
    moved = RandomChanges(Augmentation(CropJitter(turn=0, scale=1.0, shift=0.2)))
    assert not np.array_equal(FaceDataset(records, SPEC, (), moved)[0][0].numpy(), image)


def test_a_sample_is_the_face_as_the_runtime_resizes_it_with_its_labels(tmp_path):
    root = folder(tmp_path, {"confounder": "web"}, {"confounder": "phone", "expression": "sad"})
    records = load_data(root).records
    face, target, stratum, index = FaceDataset(records, SPEC, ("film", "web"))[0]
    np.testing.assert_array_equal(face.numpy(), resize_face(read_image(root / "0.png"), SPEC))
    assert (target.tolist(), stratum, index) == ([1.0, 0.0], 1, 0)
    assert FaceDataset(records, SPEC, ("film", "web"))[1][2] == -1  # a stratum the model has no centre for
