"""Evaluation predicts every face once, with any number of processes."""

import pytest
import torch
from lightning_fabric import Fabric

from doubles.face_folder import EXPRESSIONS, STRATA, write_faces
from doubles.scripts import run_script
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.evaluation.predict import predict, predict_strata
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build

CONFIG = ModelConfig(EXPRESSIONS, STRATA, backbone="test_resnet", stride=16, image_size=64, width=8)

SCRIPT = """
import sys
import torch
from lightning_fabric import Fabric
from iern.train.network.config import ModelConfig
from iern.train.data.manifest import load_data
from iern.train.data.dataset import FaceDataset
from iern.train.network.iern import build
from iern.train.evaluation.predict import predict_strata

root, out = sys.argv[1:]

def share(fabric):
    data = load_data(root)
    model = build(ModelConfig.from_dict(CONFIG))
    model.load_state_dict(torch.load(f"{root}/weights.pt", weights_only=True))
    tables = {}
    for count in (7, 1):
        faces = FaceDataset(data.records[:count], model.config.input, data.strata)
        counts = []
        tables[count] = predict_strata(model, faces, fabric, batch_size=2, on_batch=counts.append)
        tables[f"count {count}"] = sum(counts)
    torch.save(tables, f"{out}/{fabric.global_rank}.pt")
    fabric.barrier()

torch.set_num_threads(1)
# Forked, so that PyTorch is imported once.
Fabric(accelerator="cpu", devices=3, strategy="ddp_fork").launch(share)
"""


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(CONFIG)


def faces_of(root, count):
    data = load_data(root)
    return FaceDataset(data.records[:count], CONFIG.input, data.strata)


def one_by_one(predict_batch, model, faces):
    """The same predictions without a loader, one face at a time."""
    model.eval()
    with torch.no_grad():
        return torch.cat([predict_batch(model.normalise(face[None])) for face, *_ in faces])


def test_each_row_is_the_prediction_for_its_face_and_the_model_keeps_its_mode(tmp_path, model):
    faces = faces_of(write_faces(tmp_path, 7), 7)
    model.train()
    counts = []
    fabric = Fabric(accelerator="cpu", devices=1)
    by_stratum = predict_strata(model, faces, fabric, batch_size=3, on_batch=counts.append)
    table = predict(model, faces, fabric)
    assert model.training
    assert counts == [3, 3, 1]
    assert (by_stratum.shape, by_stratum.dtype) == ((7, len(STRATA), 3), torch.float32)
    assert (table.shape, table.dtype) == ((7, 3), torch.float32)
    torch.testing.assert_close(by_stratum, one_by_one(model.stratum_logits, model, faces))
    torch.testing.assert_close(table, one_by_one(model.probabilities, model, faces))


def test_no_face_gives_an_empty_table(tmp_path, model):
    faces = faces_of(write_faces(tmp_path, 6), 0)
    assert predict(model, faces, Fabric(accelerator="cpu", devices=1)).shape == (0, 3)


def test_prediction_moves_no_running_statistics(tmp_path, model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, faces_of(write_faces(tmp_path, 6), 6), Fabric(accelerator="cpu", devices=1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_three_processes_predict_seven_faces_once_each_and_one_face_without_hanging(tmp_path, model):
    root = write_faces(tmp_path / "faces", 7)
    torch.save(model.state_dict(), root / "weights.pt")
    script = tmp_path / "share.py"
    script.write_text(f"CONFIG = {CONFIG.to_dict()!r}\n{SCRIPT}", encoding="utf-8")
    run_script(script, root, tmp_path)
    tables = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    for count, shares in ((7, [3, 2, 2]), (1, [1, 0, 0])):
        expected = one_by_one(model.stratum_logits, model, faces_of(root, count))
        assert [table[f"count {count}"] for table in tables] == shares
        for table in tables:
            torch.testing.assert_close(table[count], expected)
