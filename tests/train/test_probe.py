"""The command reads every label from every feature of a checkpoint, and writes what it prints."""

import dataclasses
import json

import pytest

from doubles.face_folder import write_faces
from doubles.tiny_network import tiny_config, tiny_network
from iern.train.data.conditions import STRATA
from iern.train.network.checkpoint import Checkpoint, save_checkpoint
from iern.train.probe import main


@pytest.mark.parametrize("under_conditions", [False, True])
def test_the_command_reads_every_label_from_every_feature(tmp_path, capsys, under_conditions):
    root = write_faces(tmp_path / "faces", 30, testing=40)
    config = tiny_config(expressions=("happy", "neutral", "sad"))
    if under_conditions:
        config = dataclasses.replace(config, strata=STRATA)
    save_checkpoint(Checkpoint(config, tiny_network(config).state_dict()), tmp_path / "ckpt.pt")
    out = tmp_path / "probes.json"
    assert main([str(tmp_path / "ckpt.pt"), "--data", str(root), "--json", str(out)]) == 0
    assert "(most frequent)" in capsys.readouterr().out
    probes = json.loads(out.read_text(encoding="utf-8"))["probes"]
    assert set(probes) == {"base", "emotion", "context"}
    for found in probes.values():
        assert set(found) == {"expression", "confounder"} | ({"condition"} if under_conditions else set())
        assert all(each["n"] == 40 for each in found.values())
        assert found["expression"]["chance"] == pytest.approx(1 / 3)
        assert found["confounder"]["majority"] == pytest.approx(0.5, abs=0.05)
    if under_conditions:  # colour, focus and light are easily read from random features
        assert probes["base"]["condition"]["accuracy"] > probes["base"]["condition"]["majority"] + 0.1


def test_a_split_that_is_too_small_is_an_error_of_the_command(tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 3, testing=1)
    config = tiny_config(expressions=("happy", "neutral", "sad"))
    save_checkpoint(Checkpoint(config, tiny_network(config).state_dict()), tmp_path / "ckpt.pt")
    assert main([str(tmp_path / "ckpt.pt"), "--data", str(root)]) == 1
    assert "a probe needs at least 2 of both" in capsys.readouterr().err
