"""One iteration of Algorithm 1: what it moves, and its gradients compared with a derivation in float64."""

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from iern.train.algorithm.batch import Batch
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.algorithm.frozen import frozen_statistics
from iern.train.algorithm.methods import training_method
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build

E, N, D, SIZE = 4, 3, 8, 16
PARTS = (
    "backbone",
    "emotion_generator",
    "context_generator",
    "emotion_discriminator",
    "context_discriminator",
    "reconstruction",
    "classifier",
    "confounders",
)


class TinyBackbone(nn.Module):
    """One convolution and a BatchNorm, which the equations below repeat."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, D, 4, stride=4)
        self.norm = nn.BatchNorm2d(D)

    def forward(self, image):
        return self.norm(self.convolution(image))


def make(method="iern", seed=0, **config):
    torch.manual_seed(seed)
    model = build(
        ModelConfig(
            expressions=tuple("abcd"), strata=tuple("xyz"), method=method,
            backbone="test_resnet", stride=16, image_size=64, width=D,
        )
    )  # fmt: skip
    model.backbone = TinyBackbone()
    model.double().train()
    training = training_method(model, AlgorithmConfig(**config), Fabric(accelerator="cpu", devices=1))
    generator = torch.Generator().manual_seed(seed)
    batch = Batch(
        torch.randint(0, 256, (5, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8),
        torch.rand(5, E, generator=generator, dtype=torch.float64).softmax(1),
        torch.tensor([0, 1, 2, 1, 1]),
    )
    return model, training, batch


def part_of(name: str) -> str:
    return name.split(".")[0]


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before, after) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def steps_of(training, batch) -> dict[str, set[str]]:
    """The parameters that the step of each optimiser changes."""
    changes = {}
    for name, optimiser in training.optimisers.items():
        inner = optimiser.step

        def watched(*args, _inner=inner, _name=name, **kwargs):
            before = {k: p.clone() for k, p in training.model.named_parameters()}
            result = _inner(*args, **kwargs)
            changes[_name] = moved(before, dict(training.model.named_parameters()))
            return result

        optimiser.step = watched
    training.step(batch)
    return changes


def parameters(model, *parts):
    return {name for name, _ in model.named_parameters() if part_of(name) in parts}


def test_each_step_moves_exactly_the_parameters_that_algorithm_1_names():
    model, training, batch = make()
    changes = steps_of(training, batch)
    assert list(changes) == ["dis", "feat", "cls"]
    assert changes["dis"] == parameters(model, "emotion_discriminator", "context_discriminator")
    assert changes["feat"] == parameters(
        model, "emotion_generator", "context_generator", "reconstruction", "confounders"
    )
    # The gradient of a bias before a BatchNorm is 0, except for rounding: it may or may not move.
    idle = {"backbone.convolution.bias"}
    assert changes["cls"] - idle == parameters(model, "backbone", "emotion_generator", "classifier") - idle


@pytest.mark.parametrize(
    ("method", "kept"),
    [("baseline", {"backbone", "classifier"}), ("disentanglement", set(PARTS) - {"confounders"})],
)
def test_the_ablations_train_the_parts_that_they_have(method, kept):
    model, training, batch = make(method)
    before = snapshot(model)
    training.step(batch)
    assert {part_of(name) for name in moved(before, snapshot(model))} == kept


def counters(model):
    return {name: int(value) for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}


def test_running_statistics_move_once_except_those_of_g_r():
    model, training, batch = make()
    training.step(batch)
    for name, count in counters(model).items():
        expected = N + 1 if part_of(name) == "reconstruction" else 1
        assert count == expected, name
    model, training, batch = make(statistics="balanced")
    training.step(batch)
    assert {count for name, count in counters(model).items() if part_of(name) == "reconstruction"} == {N}


def test_the_emotion_generators_statistics_are_those_of_the_last_pass():
    model, training, batch = make()
    seen = []
    first = model.emotion_generator[1].body[0]
    first.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    norm = model.emotion_generator[1].body[1]
    training.step(batch)
    assert len(seen) == 2
    torch.testing.assert_close(norm.running_mean, 0.1 * seen[1].mean((0, 2, 3)))


def test_balanced_statistics_weigh_the_strata_equally():
    model, training, batch = make(statistics="balanced")
    seen = []
    model.reconstruction.blocks[2].body[0].register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    training.step(batch)
    strata = torch.stack([out.mean((0, 2, 3)) for out in seen[1:]])
    torch.testing.assert_close(model.reconstruction.blocks[2].body[1].running_mean, 0.1 * strata.mean(0))


def test_published_statistics_favour_the_last_stratum():
    model, training, batch = make()
    seen = []
    model.reconstruction.blocks[2].body[0].register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    training.step(batch)
    expected = torch.zeros(D, dtype=torch.float64)
    for out in seen:
        expected = 0.9 * expected + 0.1 * out.mean((0, 2, 3))
    torch.testing.assert_close(model.reconstruction.blocks[2].body[1].running_mean, expected)


def test_frozen_statistics_normalise_by_the_batch_and_do_not_change():
    norm = nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    with frozen_statistics([norm]):
        inside = norm(x)
    assert int(norm.num_batches_tracked) == 0 and not norm.running_mean.any()
    torch.testing.assert_close(inside, norm(x))


# The paper's equations, written again on plain tensors.


class Equations:
    """f_b, g_e, g_c, d_e, d_c, g_r, f_c as functions of a dictionary of float64 parameters."""

    def __init__(self, state):
        self.p = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in state.items()}

    def grads(self, loss, names):
        return dict(zip(names, torch.autograd.grad(loss, [self.p[n] for n in names]), strict=True))

    def descend(self, grads, lr, eps=1e-8):
        """Adam's first step: both moments' bias corrections leave g and g squared."""
        for name, g in grads.items():
            self.p[name] = (self.p[name] - lr * g / (g.pow(2).sqrt() + eps)).detach().requires_grad_()

    def norm(self, x, at):
        centred = x - x.mean((0, 2, 3), keepdim=True)
        scaled = centred / (centred.pow(2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return scaled * self.p[f"{at}.weight"].view(1, -1, 1, 1) + self.p[f"{at}.bias"].view(1, -1, 1, 1)

    def block(self, x, at):
        h = F.conv2d(x, self.p[f"{at}.body.0.weight"], padding=1)
        h = self.norm(h, f"{at}.body.1").clamp(min=0)
        return x + self.norm(F.conv2d(h, self.p[f"{at}.body.3.weight"], padding=1), f"{at}.body.4")

    def f_b(self, x):
        p = self.p
        x = F.conv2d(x, p["backbone.convolution.weight"], p["backbone.convolution.bias"], stride=4)
        return self.norm(x, "backbone.norm")

    def g(self, x, at):
        x = F.conv2d(x, self.p[f"{at}.0.weight"], self.p[f"{at}.0.bias"], padding=1)
        return self.block(self.block(x, f"{at}.1"), f"{at}.2")

    def g_r(self, e, c):
        x = torch.cat([e, c], 1)
        x = F.conv2d(x, self.p["reconstruction.mix.weight"], self.p["reconstruction.mix.bias"], padding=1)
        for i in range(3):
            x = self.block(x, f"reconstruction.blocks.{i}")
        return x

    def d(self, x, at):
        x = F.leaky_relu(F.conv2d(x, self.p[f"{at}.layers.0.weight"], self.p[f"{at}.layers.0.bias"], 2, 1), 0.01)
        for i in (2, 4, 6):
            x = F.leaky_relu(F.conv2d(x, self.p[f"{at}.layers.{i}.weight"], self.p[f"{at}.layers.{i}.bias"]), 0.01)
        return F.conv2d(x, self.p[f"{at}.layers.8.weight"])[:, :, 0, 0]

    def f_c(self, x):
        return x.mean((2, 3)) @ self.p["classifier.linear.weight"].T + self.p["classifier.linear.bias"]

    def names(self, *parts):
        return [n for n in self.p if part_of(n) in parts and self.p[n].requires_grad and "running" not in n]


def cross_entropy(logits, target):
    return -(target * (logits - logits.logsumexp(1, keepdim=True))).sum(1).mean()


def derived(state, batch, lr=2e-4, backbone_lr=1e-4, lambda2=5e-4):
    """Gradients of the three steps and the losses, from Eq. 3 to 7 and Algorithm 1."""
    q = Equations(state)
    pixels = batch.faces.double()[..., [2, 1, 0]].permute(0, 3, 1, 2) / 255
    x, y, yc = (pixels - 0.5) / 0.5, batch.expression, F.one_hot(batch.confounder, N).double()
    base = q.f_b(x)
    fixed = base.detach()
    emotion, context = q.g(fixed, "emotion_generator"), q.g(fixed, "context_generator")

    dis = cross_entropy(q.d(emotion.detach(), "emotion_discriminator"), y)
    dis = (dis + cross_entropy(q.d(context.detach(), "context_discriminator"), yc)) / 2
    found = {"dis": q.grads(dis, q.names("emotion_discriminator", "context_discriminator"))}
    q.descend(found["dis"], lr)

    confused = (q.d(emotion, "context_discriminator").softmax(1) - 1 / N).pow(2).mean()
    confused = (confused + (q.d(context, "emotion_discriminator").softmax(1) - 1 / E).pow(2).mean()) / 2
    rebuilt = (q.g_r(emotion, context) - fixed).pow(2).mean()
    centre = (context - q.p["confounders"][batch.confounder]).pow(2).sum((1, 2, 3)).mean()
    names = q.names("emotion_generator", "context_generator", "reconstruction", "confounders")
    found["feat"] = q.grads(confused + rebuilt + lambda2 * centre, names)
    q.descend(found["feat"], lr)

    emotion = q.g(base, "emotion_generator")
    logits = sum(q.f_c(q.g_r(emotion, q.p["confounders"][i].detach().expand_as(emotion))) for i in range(N)) / N
    cls = cross_entropy(logits, y)
    found["cls"] = q.grads(cls, q.names("backbone", "emotion_generator", "classifier"))
    q.descend({n: g for n, g in found["cls"].items() if n.startswith("backbone")}, backbone_lr)
    q.descend({n: g for n, g in found["cls"].items() if not n.startswith("backbone")}, lr)
    values = {"discriminator": dis, "confusion": confused, "reconstruction": rebuilt, "centre": centre}
    return found, {**values, "classification": cls}, q.p


def test_gradients_losses_and_weights_equal_a_float64_derivation_from_the_equations():
    model, training, batch = make(seed=3)
    state = snapshot(model)
    losses = training.step(batch)
    gradients, expected, weights = derived(state, batch)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss.detach(), rtol=1e-10, atol=1e-12, msg=name)
    names = {id(p): n for n, p in model.named_parameters()}
    for step, optimiser in training.optimisers.items():
        seen = {names[id(p)]: s["exp_avg"] / (1 - 0.5) for p, s in optimiser.state.items()}
        assert seen.keys() == gradients[step].keys(), step
        for name, gradient in gradients[step].items():
            torch.testing.assert_close(seen[name], gradient, rtol=1e-7, atol=1e-12, msg=f"{step} {name}")
    idle = "backbone.convolution.bias"  # its gradient is rounding only, which Adam divides by itself
    for name, parameter in model.named_parameters():
        if name != idle:
            torch.testing.assert_close(parameter.detach(), weights[name].detach(), rtol=1e-6, atol=1e-8, msg=name)


def test_the_centres_distance_is_to_the_strata_mean_context_features():
    model, training, batch = make()
    seen = []
    model.context_generator.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    training.step(batch)
    training.step(batch)
    context, strata = torch.cat(seen), batch.confounder.repeat(2)
    means = torch.stack([context[strata == i].mean(0) for i in range(N)])
    expected = (model.confounders - means).pow(2).mean().sqrt()
    assert training.end_epoch(0)["centre_distance"] == pytest.approx(expected.item())


def test_centres_are_set_to_the_means_after_the_first_epoch_only():
    model, training, batch = make(centres="means")
    training.step(batch)
    means = training.context_means.means()
    training.end_epoch(0)
    torch.testing.assert_close(model.confounders.detach(), means)
    training.step(batch)
    learned = model.confounders.detach().clone()
    training.end_epoch(1)
    torch.testing.assert_close(model.confounders.detach(), learned)
