"""The plan of the set: which picture has which person, expression and split."""

import csv
import io

import pytest

from iern.train.data.made_set import COLUMNS, manifest
from iern.train.rendered.data_set import plan
from iern.train.rendered.expressions import EXPRESSIONS


@pytest.mark.parametrize("count", [1, 2, 150])
def test_every_expression_has_the_asked_number_of_pictures_each_under_its_own_name(count):
    samples = plan(count)
    for expression in EXPRESSIONS:
        paths = [sample.path for sample in samples if sample.expression == expression]
        assert paths == [f"{expression}/{number:05d}.jpg" for number in range(count)]


def test_no_person_is_in_two_splits_and_a_tenth_is_for_validation():
    samples = plan(300)
    splits = {}
    for sample in samples:
        splits.setdefault(sample.subject, set()).add(sample.split)
    assert len(splits) == 140 and all(len(names) == 1 for names in splits.values())
    assert sum(names == {"valid"} for names in splits.values()) == 14
    for split in ("train", "valid"):
        assert {sample.expression for sample in samples if sample.split == split} == set(EXPRESSIONS)


def test_a_longer_set_begins_with_the_shorter_one():
    assert plan(20)[: 7 * 3] == plan(3)


def test_the_manifest_has_the_columns_that_training_reads():
    samples = plan(3)
    rows = list(csv.DictReader(io.StringIO(manifest(samples))))
    assert tuple(rows[0]) == COLUMNS == ("path", "expression", "confounder", "split", "subject")
    assert [row["path"] for row in rows] == [sample.path for sample in samples]
    assert {row["confounder"] for row in rows} == {"rendered"}
    assert all(row["path"].startswith(f"{row['expression']}/") for row in rows)
