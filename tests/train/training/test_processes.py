"""Several processes train one network: the mean of their gradients moves all of them equally."""

import pytest
import torch

from doubles.scripts import run_script
from iern.train.algorithm.losses import classification_loss
from iern.train.network.config import ModelConfig
from iern.train.network.iern import batch_norms, build

CONFIG = ModelConfig(
    tuple("abcd"), tuple("xy"), backbone="test_resnet", stride=16, image_size=32, width=8, method="iern"
)
RATE, PROCESSES, STEPS = 1e-3, 2, 3

SHARED = """
import torch
from iern.train.algorithm.batch import Batch

def batch_of(rank, step):
    generator = torch.Generator().manual_seed(100 * rank + step)
    return Batch(
        torch.randint(0, 256, (5, 32, 32, 3), generator=generator, dtype=torch.uint8),
        torch.rand(5, 4, generator=generator, dtype=torch.float64).softmax(1),
        torch.randint(0, 2, (5,), generator=generator),
    )
"""

SCRIPT = """
import sys
from lightning_fabric import Fabric
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.algorithm.methods import training_method
from iern.train.algorithm.processes import average_statistics
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=PROCESSES, strategy="ddp")
fabric.launch()
torch.manual_seed(0)
model = build(ModelConfig.from_dict(CONFIG)).double().train()
training = training_method(model, AlgorithmConfig(lr=RATE, backbone_lr=RATE), fabric)
states = []
for step in range(STEPS):
    training.step(batch_of(fabric.global_rank, step))
    states.append({name: p.detach().clone() for name, p in model.named_parameters()})
average_statistics(model, fabric)
torch.save({"states": states, "end": model.state_dict()}, f"{sys.argv[1]}/{fabric.global_rank}.pt")
fabric.barrier()
"""

namespace: dict = {}
exec(SHARED, namespace)
batch_of = namespace["batch_of"]


def trained(folder, config) -> list[dict]:
    """The saved values of each process after its steps."""
    names = {"CONFIG": config.to_dict(), "PROCESSES": PROCESSES, "RATE": RATE, "STEPS": STEPS}
    script = folder / "train.py"
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    script.write_text(head + SHARED + SCRIPT, encoding="utf-8")
    run_script(script, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.slow
def test_all_processes_hold_the_same_weights_after_every_step_and_the_same_statistics_after_an_epoch(tmp_path):
    first, second = trained(tmp_path, CONFIG)
    for step, (here, there) in enumerate(zip(first["states"], second["states"], strict=True)):
        for name, value in here.items():
            assert torch.equal(value, there[name]), f"step {step}: {name}"
    for name, value in first["end"].items():
        assert torch.equal(value, second["end"][name]), name
    assert any(not torch.equal(first["states"][0][name], first["states"][-1][name]) for name in first["states"][0])


@pytest.mark.slow
def test_the_step_is_adams_on_the_mean_of_the_processes_gradients(tmp_path):
    config = ModelConfig.from_dict({**CONFIG.to_dict(), "method": "baseline"})
    first, _ = trained(tmp_path, config)
    torch.manual_seed(0)
    model = build(config).double().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.5, 0.999))
    for norm in batch_norms([model]):
        norm.track_running_stats = False
    loss = sum(
        classification_loss(model(model.normalise(batch.faces)), batch.expression) / PROCESSES
        for batch in (batch_of(rank, 0) for rank in range(PROCESSES))
    )
    loss.backward()
    optimiser.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(first["states"][0][name], value.detach(), rtol=1e-9, atol=1e-9)
