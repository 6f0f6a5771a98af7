"""Which muscles make which expression, and how strongly."""

import numpy as np
import pytest

from iern.train.rendered.expressions import (
    CLEAR,
    EXPRESSIONS,
    LIMITS,
    PROTOTYPES,
    WEAK,
    contract,
    rest,
    shape_names,
    sides_of,
    weakest_of,
)

# The expressions of the kit: `expressions` of its vertex_indices.json, and the two pairs of meshes beside them.
WITHOUT_SIDES = """jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper"""
WITH_SIDES = """browDown browInnerUp browOuterUp cheekPuff cheekRaiser cheekSquint eyeBlink eyeLookDown eyeLookIn
    eyeLookOut eyeLookUp eyeSquint eyeWide mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch
    mouthUpperUp noseSneer PupilDilate"""
SHAPES = {*WITHOUT_SIDES.split(), *(f"{name}_{side}" for name in WITH_SIDES.split() for side in "LR")}

# What every variant of an expression has, after the table of EMFACS (Ekman and Friesen): each group is an action unit
# or two of which one is enough.
CORE = {
    "anger": [{"browDown"}, {"eyeSquint", "eyeWide"}],
    "disgust": [{"noseSneer"}, {"mouthUpperUp"}],
    "fear": [{"browInnerUp"}, {"browDown"}, {"mouthStretch"}],
    "happiness": [{"mouthSmile"}, {"cheekSquint"}],
    "sadness": [{"browInnerUp"}, {"mouthFrown"}],
    "surprise": [{"browInnerUp"}, {"browOuterUp"}, {"eyeWide"}, {"jawOpen"}],
    "neutral": [],
}
AGAINST = {"happiness": {"mouthFrown", "browDown"}, "sadness": {"mouthSmile"}, "anger": {"mouthSmile", "browInnerUp"}}
AT_REST: dict[str, float] = {}


def drawn(expression, count=400):
    return [contract(expression, AT_REST, np.random.default_rng([k, 3])) for k in range(count)]


def mean_of(contraction, muscle):
    return np.mean([contraction.weights.get(name, 0.0) for name in sides_of(muscle)])


def test_the_kit_has_every_shape():
    assert len(SHAPES) == 57
    assert set(shape_names()) <= SHAPES
    for expression in EXPRESSIONS:
        for contraction in drawn(expression, 100):
            assert set(contraction.weights) <= set(shape_names())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_variant_contracts_the_muscles_of_its_expression(expression):
    assert PROTOTYPES[expression]
    for prototype in PROTOTYPES[expression]:
        for unit in CORE[expression]:
            assert max(prototype.muscles.get(muscle, (0, 0))[1] for muscle in unit) >= 0.25, (prototype.name, unit)
        assert not AGAINST.get(expression, set()) & set(prototype.muscles)
        assert prototype.share >= 1
        assert all(0 <= low < high <= 1.6 for low, high in prototype.muscles.values())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_contractions_stay_within_what_the_meshes_can_show(expression):
    for contraction in drawn(expression):
        for muscle, most in LIMITS.items():
            assert all(0 <= contraction.weights.get(name, 0) <= most for name in sides_of(muscle))
        assert all(0 <= contraction.of("eyeBlink", side) <= 1 for side in "LR")
        across, up = contraction.gaze
        assert abs(across) <= 0.5 and -0.4 <= up <= 0.25


def test_expressions_differ_in_the_muscles_that_define_them():
    faces = {expression: drawn(expression, 200) for expression in EXPRESSIONS}
    means = {e: {muscle: np.mean([mean_of(c, muscle) for c in faces[e]]) for muscle in LIMITS} for e in EXPRESSIONS}

    def strongest(muscle):
        return max(EXPRESSIONS, key=lambda expression: means[expression][muscle])

    assert strongest("browDown") == "anger"
    assert strongest("noseSneer") == strongest("mouthUpperUp") == "disgust"
    assert strongest("mouthStretch") == "fear"
    assert strongest("mouthSmile") == strongest("cheekSquint") == "happiness"
    assert strongest("mouthFrown") == "sadness"
    assert strongest("browOuterUp") == strongest("jawOpen") == "surprise"
    assert max(means["neutral"].values()) < 0.12


@pytest.mark.parametrize("expression", ["fear", "surprise"])
def test_eyes_that_an_expression_widens_never_blink(expression):
    assert all(c.of("eyeBlink", side) == 0 for c in drawn(expression, 1000) for side in "LR")
    assert any(c.of("eyeBlink", "L") > 0.4 for c in drawn("neutral"))


def test_sad_faces_and_closed_smiles_are_never_weak_and_others_are():
    """The inner brow is in every variant of sadness at 0.5 or more, and the smile in every closed smile at 0.45."""
    assert min(mean_of(c, "browInnerUp") for c in drawn("sadness", 1000)) >= 0.5 * CLEAR
    for prototype in PROTOTYPES["happiness"]:
        closed = "jawOpen" not in prototype.muscles
        assert weakest_of("happiness", prototype) == (CLEAR if closed else WEAK)
    smiles = [mean_of(c, "mouthSmile") for c in drawn("happiness", 1000)]
    assert 0.45 * CLEAR <= min(smiles) < 0.4 and max(smiles) > 0.9
    anger = [mean_of(c, "browDown") for c in drawn("anger", 1000)]
    assert 0.7 * WEAK <= min(anger) < CLEAR and max(anger) > 1.2


def test_a_face_at_rest_shows_less_under_a_strong_expression():
    at_rest = {"mouthDimple_L": 1.0}
    shown = [contract("surprise", at_rest, np.random.default_rng(k)).weights["mouthDimple_L"] for k in range(300)]
    assert 0.4 <= min(shown) < 0.45 and max(shown) < 0.95
    resting = [rest(np.random.default_rng(k)) for k in range(200)]
    assert all(0 <= value < 1 for face in resting for value in face.values())
    assert 0.4 < np.mean([face["browDown_L"] > 0 for face in resting]) < 0.6


def test_the_sides_of_a_face_differ_a_little_and_the_same_seed_gives_the_same_face():
    faces = drawn("happiness")
    lean = [c.of("mouthSmile", "L") - c.of("mouthSmile", "R") for c in faces]
    assert 0.03 < np.std(lean) < 0.4 and abs(np.mean(lean)) < 0.05
    assert [c.weights for c in faces[:20]] == [c.weights for c in drawn("happiness", 20)]
