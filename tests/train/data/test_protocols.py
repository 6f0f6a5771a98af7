"""The paper's splits, against the paper's own table and text."""

import pytest

from iern.runtime.errors import DataError
from iern.train.data.protocols import TABLE1_EXPRESSIONS, TABLE1_STRATA, confounded, folds, held_out

# Copied from Table 1 of the paper, digit by digit.
TABLE_1 = """
                AN  DI  FE  HA  SA  SU
    CK+          1   2   3   1   2   3
    MMI          3   1   2   3   1   2
    Oulu-CASIA   2   3   1   2   3   1
"""
ABBREVIATIONS = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "SA": "sadness",
    "SU": "surprise",
}


def test_the_rotation_is_table_1():
    header, *rows = (line.split() for line in TABLE_1.strip().splitlines())
    printed = {
        (ABBREVIATIONS[column], row[0]): int(fold) for row in rows for column, fold in zip(header, row[1:], strict=True)
    }
    assert folds(TABLE1_EXPRESSIONS, TABLE1_STRATA) == printed


def test_the_text_of_section_4_1_holds():
    # "in the first fold, ... all anger images from CK+, were included in the test set"
    assert ("anger", "CK+") in held_out(TABLE1_EXPRESSIONS, TABLE1_STRATA, 1)
    # "fear images in the test set are from CK+ (number 3)"; "in the third fold ... failed to recognize anger in MMI"
    assert {("fear", "CK+"), ("anger", "MMI")} <= held_out(TABLE1_EXPRESSIONS, TABLE1_STRATA, 3)


@pytest.mark.parametrize("strata", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("expressions", [2, 3, 7])
def test_in_every_fold_each_expression_misses_one_stratum_and_every_stratum_is_trained_on(expressions, strata):
    names, confounders = [f"e{k}" for k in range(expressions)], [f"s{i}" for i in range(strata)]
    everything = {(name, confounder) for name in names for confounder in confounders}
    tested = [held_out(names, confounders, fold) for fold in range(1, strata + 1)]
    assert set().union(*tested) == everything and sum(map(len, tested)) == len(everything)
    for cells in tested:
        assert sorted(expression for expression, _ in cells) == sorted(names)
        assert {stratum for _, stratum in everything - cells} == set(confounders)


def test_the_toy_experiment_pairs_expressions_and_degradations_as_the_paper_says():
    seen = confounded(TABLE1_EXPRESSIONS, ("noise", "blur", "clean"))
    assert ("anger", "noise") in seen  # section 3.1: "noise is anger"
    assert {expression for expression, stratum in seen if stratum == "blur"} == {"disgust", "sadness"}  # section 1


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_each_expression_is_trained_on_under_the_given_number_of_strata_and_no_stratum_is_left_out(seen):
    strata = ("a", "b", "c", "d")
    cells = confounded(TABLE1_EXPRESSIONS, strata, seen)
    for expression in TABLE1_EXPRESSIONS:
        assert sum(cell[0] == expression for cell in cells) == seen
    assert {stratum for _, stratum in cells} == set(strata)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: held_out("ab", "xyz", 0), "folds are 1 to 3"),
        (lambda: held_out("ab", "xyz", 4), "folds are 1 to 3"),
        (lambda: folds("a", "xyz"), "1 expressions"),
        (lambda: folds("ab", ["only"]), "1 strata"),
        (lambda: folds("ab", ["x", "y", "x"]), "named twice: x"),
        (lambda: confounded("ab", "xyz", 0), "expected 1 to 2"),
        (lambda: confounded("ab", "xyz", 3), "expected 1 to 2"),
        (lambda: confounded("ab", "xyz", 1), "without training data"),
    ],
)
def test_an_impossible_protocol_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
