"""The model card's figures are those of the results, and its text agrees with the bundled file."""

from __future__ import annotations

import re

import pytest

from benchmarks import card
from iern.runtime.errors import IernError


def page() -> str:
    return card.PAGE.read_text(encoding="utf-8")


def test_the_page_holds_the_figures_of_the_results():
    assert card.page_with(page(), card.read_results(), card.read_probes(), card.bundled_artifact()) == page()


def test_a_changed_figure_is_noticed():
    results = card.read_results()
    first = next(iter(results.values()))
    results[next(iter(results))] = {**first, "accuracy": first["accuracy"] + 0.01}
    assert card.page_with(page(), results, card.read_probes(), card.bundled_artifact()) != page()


def test_a_changed_probe_is_noticed():
    found = card.read_probes()
    found["probes"]["emotion"]["expression"]["accuracy"] += 0.01
    assert card.page_with(page(), card.read_results(), found, card.bundled_artifact()) != page()


def test_few_faces_are_counts_and_many_a_share_with_its_interval():
    part = {"counts": {"few": [5, 22], "many": [45, 90]}, "intervals": {"recall": {"few": None, "many": [0.4, 0.6]}}}
    assert card._recall(part, "few") == "5 of 22"
    assert card._recall(part, "many") == "50.0% [40%, 60%]"


def test_a_page_without_marks_is_refused():
    with pytest.raises(IernError, match="put them back"):
        card.page_with("# a page", card.read_results(), card.read_probes(), card.bundled_artifact())


def test_the_results_are_of_the_model_that_the_card_describes():
    artifact = card.bundled_artifact()
    for figures in card.read_results().values():
        assert tuple(figures["expressions"]) == artifact.expressions
        assert figures["threshold"] == pytest.approx(artifact.threshold)
    (threshold,) = re.findall(r"is\s+below (0\.\d+),", page())
    assert float(threshold) == pytest.approx(artifact.threshold, abs=5e-4)
