"""Equations 3 to 7 against their definitions in NumPy float64, and the gradients against PyTorch's own losses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iern.train.algorithm import losses

B, E, N = 5, 4, 3


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits, target):
    """(n, k) logits and target distribution -> the mean over n of -sum_k target log softmax."""
    return float(np.mean(-np.sum(target * np.log(softmax(logits)), axis=1)))


def test_the_discriminator_loss_is_the_mean_of_two_cross_entropies(generator):
    of_expression, of_context = normal(generator, B, E), normal(generator, B, N)
    expression, confounder = normal(generator, B, E).softmax(1), torch.tensor([0, 2, 1, 1, 0])
    found = losses.discriminator_loss(of_expression, expression, of_context, confounder)
    expected = cross_entropy(of_expression.numpy(), expression.numpy())
    expected += cross_entropy(of_context.numpy(), np.eye(N)[confounder.numpy()])
    assert float(found) == pytest.approx(expected / 2, rel=1e-12)


def test_the_confusion_loss_is_the_squared_distance_of_both_softmaxes_to_uniform(generator):
    strata, expressions = normal(generator, B, N), normal(generator, B, E)
    to_strata = np.mean((softmax(strata.numpy()) - 1 / N) ** 2)
    to_expressions = np.mean((softmax(expressions.numpy()) - 1 / E) ** 2)
    found = losses.confusion_loss(strata, expressions)
    assert float(found) == pytest.approx((to_strata + to_expressions) / 2, rel=1e-12)


def test_the_confusion_loss_is_0_when_both_discriminators_are_undecided():
    same = torch.full((B, N), 3.0, dtype=torch.float64), torch.full((B, E), -1.0, dtype=torch.float64)
    assert float(losses.confusion_loss(*same)) == pytest.approx(0, abs=1e-30)
    certain = torch.tensor([[99.0, 0.0]], dtype=torch.float64)  # (1/2)^2 for both classes
    assert float(losses.confusion_loss(certain, certain)) == pytest.approx(0.25)


def test_the_reconstruction_loss_is_the_mean_over_all_elements(generator):
    rebuilt, base = normal(generator, B, 6, 2, 3), normal(generator, B, 6, 2, 3)
    expected = np.sum((rebuilt.numpy() - base.numpy()) ** 2) / (B * 6 * 2 * 3)
    assert float(losses.reconstruction_loss(rebuilt, base)) == pytest.approx(expected, rel=1e-12)


def test_the_centre_loss_sums_within_a_sample_and_averages_over_the_batch(generator):
    context, centres = normal(generator, B, 6, 2, 3), normal(generator, N, 6, 2, 3)
    own = centres[torch.tensor([0, 2, 1, 1, 0])]
    expected = sum(float(np.sum((c - m) ** 2)) for c, m in zip(context.numpy(), own.numpy(), strict=True)) / B
    assert float(losses.centre_loss(context, own)) == pytest.approx(expected, rel=1e-12)


def test_the_classification_loss_of_hard_and_soft_targets_is_the_cross_entropy(generator):
    logits, target = normal(generator, B, E), normal(generator, B, E).softmax(1)
    assert float(losses.classification_loss(logits, target)) == pytest.approx(
        cross_entropy(logits.numpy(), target.numpy()), rel=1e-12
    )
    labels = torch.tensor([0, 3, 1, 2, 0])
    hard = F.one_hot(labels, E).double()
    torch.testing.assert_close(losses.classification_loss(logits, hard), F.nll_loss(logits.log_softmax(1), labels))


def test_the_gradients_are_those_of_the_equations(generator):
    """Derived by hand: 2 (c - m) / B for the centres, (softmax - y) / B for the cross-entropy."""
    context, centres = normal(generator, B, 6, 2, 3).requires_grad_(), normal(generator, B, 6, 2, 3)
    losses.centre_loss(context, centres).backward()
    torch.testing.assert_close(context.grad, 2 * (context.detach() - centres) / B)
    logits, target = normal(generator, B, E).requires_grad_(), normal(generator, B, E).softmax(1)
    losses.classification_loss(logits, target).backward()
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(1) - target) / B)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_in_half_precision_are_summed_in_float32(dtype):
    context = torch.full((2, 512, 7, 7), 3.0, dtype=dtype)  # the sum, 225,792, is beyond float16
    found = losses.centre_loss(context, torch.zeros_like(context))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(9 * 512 * 49)
    assert losses.reconstruction_loss(context, torch.zeros_like(context)).dtype == torch.float32


def test_an_offset_is_added_to_the_logits_of_the_classification_loss(generator):
    logits, target, offset = normal(generator, B, E), normal(generator, B, E).softmax(1), normal(generator, E)
    found = losses.classification_loss(logits, target, offset)
    assert float(found) == pytest.approx(cross_entropy((logits + offset).numpy(), target.numpy()), rel=1e-12)
