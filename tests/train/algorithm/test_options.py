"""The options that differ from the published recipe, each compared with its definition in float64."""

import copy

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from doubles.tiny_network import EXPRESSIONS, random_faces, sequential_logits, spread_of, tiny_config, tiny_network
from iern.export.graph.deconfound import deconfound
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.algorithm.logit_offset import LabelPriors
from iern.train.algorithm.methods import training_method

B, E, N = 6, len(EXPRESSIONS), 3
PRIOR = torch.tensor([0.7, 0.2, 0.09, 0.01], dtype=torch.float64)


def make(method="iern", prior=None, stratum_prior=None, **config):
    """A network in float64 in training mode, its training method, and a batch with soft targets."""
    model = tiny_network(tiny_config(method=method)).double().train()
    fabric = Fabric(accelerator="cpu", devices=1)
    training = training_method(model, AlgorithmConfig(**config), fabric, LabelPriors(prior, stratum_prior))
    targets = torch.rand(B, E, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    return model, training, Batch(torch.from_numpy(random_faces(B)), targets, torch.tensor([0, 1, 2, 1, 1, 0]))


def features(model, batch):
    """(emotion, context) maps as training sees them. The model does not change."""
    model = copy.deepcopy(model)
    base = model.backbone(model.normalise(batch.faces))
    return model.emotion_generator(base).detach(), model.context_generator(base).detach()


def log_softmax(logits):
    return logits - logits.logsumexp(1, keepdim=True)


def cross_entropy(logits, target):
    return -(target * log_softmax(logits)).sum(1).mean()


def moment_gradient(optimiser, parameter):
    """The gradient of Adam's first step."""
    return optimiser.state[parameter]["exp_avg"] / (1 - 0.5)


def test_frozen_centres_do_not_change_and_have_no_loss():
    model, training, batch = make(centres="frozen")
    before = model.confounders.detach().clone()
    assert "centre" not in training.step(batch)
    assert training.end_epoch(0)["centre_distance"] > 0
    training.step(batch)
    assert torch.equal(model.confounders.detach(), before)
    assert model.confounders.grad is None


def test_a_shared_centre_is_learned_and_stays_the_same_for_all_strata():
    model, training, batch = make(centres="shared", centre_lr=1e-2)
    before = model.confounders.detach().clone()
    assert torch.equal(before, before[:1].expand_as(before))
    _, context = features(model, batch)
    expected = (context - before[0]).square().sum((1, 2, 3)).mean()
    for step in range(5):
        found = training.step(batch)
        if step == 0:
            torch.testing.assert_close(found["centre"], expected, rtol=1e-9, atol=0)
        centres = model.confounders.detach()
        assert torch.equal(centres, centres[:1].expand_as(centres))
    # Adam moves every value by about its rate a step.
    assert float((centres - before).abs().mean()) == pytest.approx(5 * 1e-2, rel=0.2)
    assert training.end_epoch(0)["centre_distance"] > 0


@pytest.mark.parametrize("centres", ["frozen", "shared"])
def test_networks_with_other_centres_are_exported_exactly(centres):
    model, training, batch = make(centres=centres)
    training.step(batch)
    faces = random_faces(3, seed=5)
    expected = sequential_logits(model.float().eval(), faces)
    with torch.no_grad():
        _, _, found = deconfound(model).double()(torch.from_numpy(faces))
    scale = float(expected.max() - expected.min()) if centres == "shared" else spread_of(expected)
    assert float((found - expected).abs().max()) < 1e-6 * scale
    assert (spread_of(expected) < 1e-12) == (centres == "shared")


@pytest.mark.parametrize("method", ["baseline", "iern"])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_a_logit_adjustment_changes_the_loss_and_no_prediction(method, tau):
    model, training, batch = make(method, PRIOR, logit_adjustment=tau, lr=0.0, backbone_lr=0.0)
    plain, usual, _ = make(method, lr=0.0, backbone_lr=0.0)
    logits = copy.deepcopy(model)(model.normalise(batch.faces)).detach()
    adjusted = logits.numpy() + tau * np.log(PRIOR.numpy())
    powers = np.exp(adjusted)
    shares = powers / powers.sum(axis=1, keepdims=True)
    expected = np.mean(-np.sum(batch.expression.numpy() * np.log(shares), axis=1))
    found = training.step(batch)["classification"]
    assert float(found) == pytest.approx(expected, rel=1e-6)
    # By hand, the gradient of the classifier's bias is the mean of softmax - target.
    gradient = moment_gradient(training.optimisers["cls"], model.classifier.linear.bias)
    np.testing.assert_allclose(gradient, (shares - batch.expression.numpy()).mean(axis=0), rtol=1e-5, atol=1e-8)
    usual.step(batch)
    images = model.normalise(batch.faces)
    assert torch.equal(model.eval()(images), plain.eval()(images))
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_an_expression_that_no_target_has_leaves_the_adjusted_loss_finite():
    _, training, batch = make("baseline", torch.tensor([0.5, 0.3, 0.2, 0.0]), logit_adjustment=1.0)
    batch.expression = torch.eye(E, dtype=torch.float64)[torch.tensor([0, 0, 1, 2, 1, 0])]
    assert torch.isfinite(training.step(batch)["classification"])


STRATUM_PRIOR = torch.tensor([[0.7, 0.2, 0.09, 0.01], [0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("method", ["baseline", "iern"])
@pytest.mark.parametrize(("tau", "kappa"), [(0.0, 1.0), (0.0, 0.6), (0.7, 1.0)])
def test_a_stratum_adjustment_changes_the_loss_by_bayes_rule(method, tau, kappa):
    rates = {"logit_adjustment": tau, "stratum_adjustment": kappa, "lr": 0.0, "backbone_lr": 0.0}
    model, training, batch = make(method, PRIOR, STRATUM_PRIOR, **rates)
    never = STRATUM_PRIOR[batch.confounder] == 0
    batch.expression = batch.expression.masked_fill(never, 0)
    batch.expression /= batch.expression.sum(1, keepdim=True)
    logits = copy.deepcopy(model)(model.normalise(batch.faces)).detach()
    # By Bayes: the likelihood, which the network learns, times the prior of the face's stratum.
    powers = np.exp(logits.numpy()) * PRIOR.numpy() ** (tau - kappa) * STRATUM_PRIOR[batch.confounder].numpy() ** kappa
    shares = powers / powers.sum(axis=1, keepdims=True)
    target = batch.expression.numpy()
    expected = -np.mean(np.sum(target * np.log(np.where(target > 0, shares, 1)), axis=1))
    assert float(training.step(batch)["classification"]) == pytest.approx(expected, rel=1e-6)
    gradient = moment_gradient(training.optimisers["cls"], model.classifier.linear.bias)
    np.testing.assert_allclose(gradient, (shares - target).mean(axis=0), rtol=1e-5, atol=1e-8)


def test_an_expression_that_a_stratum_never_has_gets_no_gradient():
    model, training, batch = make("baseline", PRIOR, STRATUM_PRIOR, stratum_adjustment=1.0)
    batch.confounder[:] = 2
    batch.expression = torch.eye(E, dtype=torch.float64)[torch.tensor([0, 1, 1, 0, 1, 0])]
    training.step(batch)
    gradient = moment_gradient(training.optimisers["cls"], model.classifier.linear.bias)
    assert gradient[:2].abs().min() > 1e-3
    assert gradient[2:].abs().max() < 1e-12, "neither for it nor against it"


@pytest.mark.parametrize(
    ("option", "prior"), [("logit_adjustment", None), ("stratum_adjustment", None), ("stratum_adjustment", PRIOR)]
)
def test_logits_are_not_adjusted_without_a_prior(option, prior):
    with pytest.raises(ValueError, match=f"{option} needs the prior of the training labels"):
        make(prior=prior, **{option: 1.0})
