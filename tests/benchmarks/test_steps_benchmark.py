"""The benchmark of training steps runs in one and in two processes; all its variants take the same step."""

import pytest
import torch

from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from benchmarks import steps as program

RECIPE = "configs/experiment/photos_tiny.yaml"
SMALL = ["model.window.size=32", "loader.batch_size=2", "model.dn.dim=16", "model.pcn.drop_path=0"]


def test_rows_of_all_variants_and_of_two_processes(capsys):
    assert program.main([RECIPE, "--processes", "2", "--repeats", "1", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == [*program.WAYS[:-1]]
    assert all(float(cell) > 0 for row in rows[1:] for cell in row[1:])
    assert lines[-1].startswith("2 processes: ") and lines[-1].endswith(" %")


def test_all_variants_take_the_same_step():
    config = load_config(TrainConfig, RECIPE, [*SMALL, *program.DRAWN])
    config.model.pcn.pretrained = False
    after = {}
    for way in program.WAYS[:-1]:
        torch.manual_seed(0)
        step = program.Step(config, way, "cpu")
        for number in range(2):
            torch.manual_seed(number)
            step()
        torch.manual_seed(9)
        after[way] = float(step.forward().detach())
        assert step.half == (way == "+ bf16")
    exact = after[program.WAYS[0]]
    assert [after[way] for way in program.WAYS[1:3]] == pytest.approx([exact, exact], rel=1e-3)
    assert after["+ bf16"] == pytest.approx(exact, rel=0.1)
