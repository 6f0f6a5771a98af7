"""A linear probe reads what is linearly in the features, and learns no person by heart."""

import numpy as np
import pytest
import torch

from doubles.face_folder import write_faces
from doubles.tiny_network import tiny_config, tiny_network
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.evaluation.probing import linear_probe, pooled_features

PEOPLE, EACH, WIDTH = 30, 8, 6


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def subjects():
    return [f"person {i // EACH}" for i in range(PEOPLE * EACH)]


def test_a_label_on_one_axis_of_the_features_is_read(random, subjects):
    labels = random.integers(0, 3, PEOPLE * EACH)
    features = random.normal(size=(PEOPLE * EACH, WIDTH)).astype(np.float32)
    features[:, 2] += 20 * labels
    found = linear_probe(features, [f"label {k}" for k in labels], subjects)
    assert found["accuracy"] > 0.95
    assert found["n"] == PEOPLE * EACH
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["majority"] == pytest.approx(np.bincount(labels).max() / len(labels))


def test_a_label_that_is_not_in_the_features_is_not_read(random, subjects):
    labels = random.integers(0, 2, PEOPLE * EACH)
    features = random.normal(size=(PEOPLE * EACH, WIDTH)).astype(np.float32)
    found = linear_probe(features, [f"label {k}" for k in labels], subjects)
    assert found["accuracy"] < 0.62


def test_a_label_that_depends_on_the_person_alone_is_not_read(random, subjects):
    """Each person has one label and their own features: a probe trained on the person would always be right."""
    appearance, label = random.normal(size=(PEOPLE, 40)), random.permutation(np.arange(PEOPLE) % 2)
    person = np.arange(PEOPLE * EACH) // EACH
    features = (appearance[person] + 0.01 * random.normal(size=(len(person), 40))).astype(np.float32)
    found = linear_probe(features, [f"label {k}" for k in label[person]], subjects)
    assert found["accuracy"] < 0.75


@pytest.mark.parametrize(("labels", "people"), [("aaaa", "abcd"), ("abab", "aaaa")])
def test_one_label_or_one_person_is_refused(labels, people):
    with pytest.raises(ValueError, match="at least 2 of both"):
        linear_probe(np.zeros((4, 2), np.float32), list(labels), list(people))


@pytest.mark.parametrize("method", ["iern", "baseline"])
def test_the_features_are_pooled_maps_of_the_network_in_order(tmp_path, method):
    model = tiny_network(tiny_config(method=method)).train()
    faces = FaceDataset(load_data(write_faces(tmp_path, 5)).records, model.config.input, ())
    found = pooled_features(model, faces, batch_size=2)
    assert model.training
    assert set(found) == ({"base", "emotion", "context"} if method == "iern" else {"base"})
    model.eval()
    with torch.no_grad():
        for i, (face, *_) in enumerate(faces):
            base = model.backbone(model.normalise(face[None]))
            np.testing.assert_allclose(found["base"][i], base[0].mean(dim=(1, 2)), rtol=1e-3, atol=1e-5)
            if method == "iern":
                emotion = model.emotion_generator(base)[0].mean(dim=(1, 2))
                np.testing.assert_allclose(found["emotion"][i], emotion, rtol=1e-3, atol=1e-5)
