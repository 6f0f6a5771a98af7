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


def test_the_confusion_loss_is_0_exactly_where_neither_discriminator_knows():
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


def spread_between(feature, member):
    """(n, d) features -> Pillai's trace, by the canonical correlations of features and memberships."""
    one, two = (np.linalg.qr(x - x.mean(axis=0))[0] for x in (feature, member[:, :-1]))
    return float(np.sum(np.linalg.svd(one.T @ two, compute_uv=False) ** 2))


def test_the_linear_dependence_is_pillais_trace_over_its_largest_value(generator, monkeypatch):
    feature, strata = normal(generator, 40, 6, 2, 3), torch.arange(40) % N
    feature[:, 1] += 0.5 * strata.view(-1, 1, 1)
    feature[:, 4] *= 1e-3  # whitening leaves the scale of a direction no say
    monkeypatch.setattr(losses, "RIDGE", 0.0)
    expected = spread_between(feature.mean(dim=(2, 3)).numpy(), np.eye(N)[strata.numpy()])
    assert float(losses.linear_dependence(feature, strata, N)) == pytest.approx(expected / (N - 1), rel=1e-9)


def test_the_linear_dependence_lies_between_strata_alike_and_strata_apart(generator):
    noise, strata = normal(generator, 60, 4, 2, 2), torch.arange(60) % N
    found = [float(losses.linear_dependence(noise.repeat_interleave(N, 0), torch.arange(60 * N) % N, N))]
    for shift in (0.5, 1.0, 1e3):
        apart = F.one_hot(strata, N).double()
        apart = torch.cat([shift * apart, torch.zeros(60, 1, dtype=torch.float64)], dim=1)
        found.append(float(losses.linear_dependence(noise + apart.view(60, 4, 1, 1), strata, N)))
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=1e-15)
    assert 0.9 < found[-1] <= 1


def test_the_linear_dependence_of_few_faces_and_of_absent_strata_is_a_number(generator):
    for count in (2, 5):
        feature = normal(generator, count, 16, 2, 2).requires_grad_()
        found = losses.linear_dependence(feature, torch.zeros(count, dtype=torch.long), N)
        found.backward()
        assert float(found.detach()) == pytest.approx(0, abs=1e-12)
        assert torch.isfinite(feature.grad).all()
    assert float(losses.linear_dependence(torch.ones(6, 4, 2, 2), torch.arange(6) % N, N)) == 0


def test_the_linear_dependence_is_solved_in_float32_inside_half_precision(generator):
    feature, strata = normal(generator, 30, 4, 2, 2).bfloat16(), torch.arange(30) % N
    expected = losses.linear_dependence(feature.double(), strata, N)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.linear_dependence(feature, strata, N)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_an_offset_is_added_to_the_logits_of_the_classification_loss(generator):
    logits, target, offset = normal(generator, B, E), normal(generator, B, E).softmax(1), normal(generator, E)
    found = losses.classification_loss(logits, target, offset)
    assert float(found) == pytest.approx(cross_entropy((logits + offset).numpy(), target.numpy()), rel=1e-12)
