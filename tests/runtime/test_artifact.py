"""The metadata of a model file are read as they were written, and unsupported metadata are refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from iern.runtime.artifact import FORMAT_VERSION, LATER_FIELDS, PREFIX, Artifact
from iern.runtime.errors import ArtifactError, PriorError
from iern.runtime.imaging.preprocess import InputSpec

FULL = Artifact(
    expressions=("neutral", "Überraschung", "怒り"),
    strata=("mean",),
    input=InputSpec(112, margin=1.25, alignment="none"),
    method="disentanglement",
    preset="edge",
    answer="probabilities",
    temperature=1.3125,
    threshold=0.4375,
    prior=(0.5, 0.375, 0.125),
    collapsed_from=4,
    data='FER2013, "LFW"\nand films',
    licence="MIT",
    metrics={"test": {"accuracy": 0.8125, "n": 3350}},
    float_sha256="cd" * 32,
    checkpoint_sha256="ab" * 32,
    parity={"onnxruntime": 1e-7},
    versions={"torch": "2.14.1"},
)


def test_the_metadata_round_trip_keeps_every_field():
    again = Artifact.from_metadata(FULL.to_metadata(), "model.onnx")
    assert again == FULL
    default = Artifact(("a", "b"), ("c",), InputSpec(64))
    for field in dataclasses.fields(Artifact):  # no field passes by its default
        assert getattr(again, field.name) != getattr(default, field.name), field.name


def test_the_metadata_is_text_and_ignores_entries_of_other_programs():
    metadata = FULL.to_metadata()
    assert all(key.startswith(PREFIX) and isinstance(value, str) for key, value in metadata.items())
    assert Artifact.from_metadata({**metadata, "author": "somebody", "iern.future": "1"}, "model.onnx") == FULL


def changed(**values: object) -> dict[str, str]:
    """Return the metadata with some fields changed. None removes a field."""
    metadata = FULL.to_metadata()
    for key, value in values.items():
        if value is None:
            del metadata[PREFIX + key]
        else:
            metadata[PREFIX + key] = json.dumps(value)
    return metadata


def test_a_file_without_a_threshold_is_read_and_is_never_uncertain():
    assert Artifact.from_metadata(changed(threshold=None), "model.onnx") == dataclasses.replace(FULL, threshold=0.0)


def test_the_rates_of_a_file_without_a_prior_are_unknown():
    assert Artifact.from_metadata(changed(prior=None), "model.onnx") == dataclasses.replace(FULL, prior=())


def test_the_strata_of_a_file_without_the_field_are_those_of_the_network():
    metadata = changed(collapsed_from=None, strata=["studio", "street"])
    expected = dataclasses.replace(FULL, collapsed_from=0, strata=("studio", "street"))
    assert Artifact.from_metadata(metadata, "model.onnx") == expected


def test_the_last_field_of_a_file_is_a_required_one():
    """A default therefore never serves for a truncated file."""
    assert list(FULL.to_metadata())[-1].removeprefix(PREFIX) not in LATER_FIELDS


def changed_input(**values: object) -> dict[str, str]:
    return changed(input={**dataclasses.asdict(FULL.input), **values})


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({}, "no iern"),
        ({"author": "somebody"}, "no iern"),
        (changed(format_version=FORMAT_VERSION + 1), f"format {FORMAT_VERSION + 1}.*reads {FORMAT_VERSION}"),
        (changed(expressions=None), "expressions"),
        (changed(strata=None), "strata"),
        (changed(input=None), "input"),
        (changed(temperature=None), "lacks temperature"),
        (changed(versions=None, parity=None), "lacks parity, versions"),
        (changed(input={"margin": 1.1}), "size"),
        (changed_input(crop="round"), "crop"),
        (changed(expressions=["neutral"]), "1 expressions"),
        (changed(expressions=7), "damaged"),
        (changed(strata=[]), "no strata"),
        (changed(temperature=0), "temperature 0"),
        (changed(temperature=float("nan")), "temperature nan"),
        (changed(temperature="hot"), "damaged"),
        (changed(threshold=-0.1), "threshold -0.1"),
        (changed(threshold=40), "threshold 40"),
        (changed(threshold=float("nan")), "threshold nan"),
        (changed(threshold="high"), "damaged"),
        (changed(prior=[0.5, 0.5]), "prior"),
        (changed(prior=[0.5, 0.5, 0.0]), "prior"),
        (changed(prior=[0.5, 0.75, -0.25]), "prior"),
        (changed(prior=[0.5, 0.5, 0.5]), "prior"),
        (changed(prior=[0.5, 0.5, float("nan")]), "prior"),
        (changed(prior=["a", "b", "c"]), "damaged"),
        (changed(prior=0.5), "damaged"),
        (changed(strata=["studio", "street"]), "2 strata collapsed from 4"),
        (changed(collapsed_from=1), "1 strata collapsed from 1"),
        (changed(collapsed_from="many"), "damaged"),
        (changed(threshold=None, versions=None), "lacks versions"),
        (changed_input(size="112"), "input size 112"),
        (changed_input(size=0), "input size 0"),
        (changed_input(margin=-1), "margin -1"),
        (changed_input(colour="rgb"), "rgb"),
        (changed_input(resize="nearest"), "nearest"),
        (changed_input(alignment="five points"), "five points"),
        ({**FULL.to_metadata(), PREFIX + "strata": '["studio", '}, "damaged"),
    ],
)
def test_unsupported_metadata_is_refused_in_one_line_with_the_file_and_a_remedy(metadata, found):
    with pytest.raises(ArtifactError, match=found) as refusal:
        Artifact.from_metadata(metadata, "model.onnx")
    message = str(refusal.value)
    assert message.startswith("model.onnx: ")
    assert "\n" not in message
    assert any(remedy in message for remedy in ("export", "update"))


@pytest.mark.parametrize(
    ("prior", "rates"),
    [
        ("uniform", (1 / 3, 1 / 3, 1 / 3)),
        ({"neutral": 0.2}, (0.2, 0.6, 0.2)),  # the others stay in the proportion 3 to 1
        ({"怒り": 0.9, "neutral": 0.04}, (0.04, 0.06, 0.9)),
        ({"neutral": 0.2, "Überraschung": 0.3, "怒り": 0.5}, (0.2, 0.3, 0.5)),
        (dict.fromkeys(FULL.expressions, 0.333), (1 / 3, 1 / 3, 1 / 3)),
        ({}, FULL.prior),
    ],
)
def test_a_prior_changes_the_rates_alone_and_leaves_the_proportions_of_the_rest(prior, rates):
    found = FULL.with_prior(prior, "model.onnx")
    assert found.prior == pytest.approx(rates, rel=1e-12)
    assert dataclasses.replace(found, prior=FULL.prior) == FULL
    assert Artifact.from_metadata(found.to_metadata(), "model.onnx") == found


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        ("training", "'training'; expected 'uniform'"),
        (("neutral", 0.5), "expected 'uniform'"),
        ({"joy": 0.5}, "joy; the model's expressions are neutral, Überraschung, 怒り"),
        ({"neutral": -0.1}, "rate -0.1 for neutral"),
        ({"neutral": 0}, "rate 0 for neutral"),
        ({"neutral": 1}, "rate 1 for neutral"),
        ({"neutral": float("nan")}, "rate nan for neutral"),
        ({"neutral": 0.6, "怒り": 0.5}, "sums to 1.1; expected less than 1"),
        ({"neutral": 0.6, "怒り": 0.4}, "sums to 1; expected less than 1"),
        (dict.fromkeys(FULL.expressions, 0.3), "sums to 0.9; expected 1"),
    ],
)
def test_rates_that_the_model_cannot_have_are_refused_in_one_line(prior, found):
    with pytest.raises(PriorError) as refusal:
        FULL.with_prior(prior, "model.onnx")
    message = str(refusal.value)
    assert message.startswith("model.onnx: ") and found in message and "\n" not in message


def test_a_model_whose_own_rates_are_unknown_takes_no_prior():
    with pytest.raises(PriorError, match="calibrate the checkpoint"):
        dataclasses.replace(FULL, prior=()).with_prior("uniform", "model.onnx")
