"""The benchmark of many objects per photo runs on drawn photos and on photos of COCO files."""

import sys

import pytest

from amodalseg.config.schema import CondDiffAMOConfig, DNConfig, PCNConfig, SamplerConfig, WindowConfig
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from benchmarks import many as program
from tests.worlds import coco_world


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = CondDiffAMOConfig(
        window=WindowConfig(size=32), pcn=PCNConfig(backbone="pvt_v2_b0", adapter_init="random"), dn=DNConfig(dim=16),
        sampler=SamplerConfig(steps=1),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("many") / "small.safetensors"
    CondDiffAMO(config).save(path)
    return str(path)


def row(capsys):
    return [float(cell) for cell in capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]]


def test_drawn_photos(weights, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["many.py", weights, "--objects", "20", "--photos", "3"])
    program.main()
    objects, photos, rate, alone, share, cpu, early, late = row(capsys)
    assert (objects, photos) == (20, 3)
    assert alone > rate > 0 and 0 < share < 100 and cpu > 0 and early > 0 and late > 0


def test_annotations_of_a_file_are_repeated(weights, capsys, monkeypatch, tmp_path):
    source, photos = coco_world(tmp_path, 2)
    given = ["--objects", "25", "--coco", str(source), str(source), "--images", str(photos), str(photos)]
    monkeypatch.setattr(sys, "argv", ["many.py", weights, *given])
    program.main()
    assert row(capsys)[:2] == [25, 4]
