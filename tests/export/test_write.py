"""Exported files agree with PyTorch and have metadata; files that disagree are removed."""

import json
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest

from amodalseg import UserError, load_model
from amodalseg.cli import main
from amodalseg.export import write
from amodalseg.export.runtime import OnnxPredictor
from amodalseg.export.verify import NUM_OBJECTS, VerificationSet, compare
from tests.export.test_graph import arrays, expected
from tests.refusals import refused


@pytest.fixture(scope="module")
def damaged(exported) -> bytes:
    """The ONNX file with a changed bias in the last layer."""
    content = onnx.load(exported.onnx)
    for tensor in content.graph.initializer:
        if "decoder" in tensor.name and tensor.name.endswith(".bias") and list(tensor.dims) == [1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
            return content.SerializeToString()
    raise AssertionError("the last layer's bias is not in the file")


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_both_files_give_the_masks_of_pytorch(exported, batch):
    given = arrays(exported.model.config, batch, 10 + batch)
    probability, mask = expected(exported.model, *given)
    for run in (OnnxPredictor(exported.onnx).run, exported.run_pt2):
        found = run(*given)
        assert found[0].shape == probability.shape and (found[1] == mask).mean() >= 0.9999
        assert (np.abs(found[0] - probability) < 1e-4).mean() >= 0.9999
    assert 0.01 < mask.mean() < 0.99


def test_what_the_export_reports(exported):
    assert [comparison.name for comparison in exported.comparisons] == [str(exported.onnx), str(exported.pt2)]
    assert all(comparison.identical >= 0.9999 for comparison in exported.comparisons)
    assert "of the mask's pixels equal PyTorch's" in str(exported.comparisons[0])


def test_the_verification_set_detects_wrong_masks(exported):
    world = VerificationSet(exported.model)
    assert world.mask.shape == (NUM_OBJECTS, 1, 64, 64) and world.image.dtype == np.uint8
    hidden = world.mask & (world.modal == 0)
    assert 0.01 < hidden.mean() < 0.9 and len(np.unique(world.image.reshape(NUM_OBJECTS, -1), axis=0)) == NUM_OBJECTS

    def wrong(image, modal, noise):
        probability, mask = run(image, modal, noise)
        mask[:, :, :4] ^= 1
        return probability, mask

    run = OnnxPredictor(exported.onnx).run
    assert compare("a.onnx", run, world, batches=[16]).identical >= 0.9999

    with pytest.raises(UserError, match=r"a\.onnx was not written: in batches of 16 only 9\d\.\d+ %"):
        compare("a.onnx", wrong, world, batches=[16])


def test_the_files_have_metadata_and_no_local_paths(exported):
    metadata = onnxruntime.InferenceSession(str(exported.onnx)).get_modelmeta().custom_metadata_map
    assert metadata["format"] == "amodalseg-onnx-1" and json.loads(metadata["about"]) == {"step": 7}
    assert (metadata["window"], metadata["steps"], metadata["threshold"]) == ("64", "1", "0.45")
    assert OnnxPredictor(exported.onnx).config == exported.model.config
    with zipfile.ZipFile(exported.pt2) as archive:
        extra = [name for name in archive.namelist() if name.endswith("/extra/metadata.json")]
        assert len(extra) == 1 and json.loads(archive.read(extra[0])) == metadata
    for path in (exported.onnx, exported.pt2):
        content = path.read_bytes()
        assert write.__file__.encode() not in content and b"site-packages" not in content and b"conftest" not in content
    assert exported.onnx.stat().st_size < 1.1 * 4 * sum(p.numel() for p in exported.model.network.parameters())
    assert {opset.domain: opset.version for opset in onnx.load(exported.onnx).opset_import} == {"": 20}


def test_a_file_that_differs_is_removed(exported, damaged, tmp_path, monkeypatch):
    target = tmp_path / "model.onnx"
    target.write_text("what was there before")
    monkeypatch.setattr(write, "trace", lambda graph: None)
    monkeypatch.setattr(write, "write_onnx", lambda program, path, metadata: path.write_bytes(damaged))
    with pytest.raises(UserError, match=r"model\.onnx was not written: in batches of 1 only"):
        write.export_model(exported.model, target)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_text() == "what was there before"


def test_if_the_second_file_differs_both_are_removed(exported, tmp_path, monkeypatch):
    good = exported.onnx.read_bytes()
    monkeypatch.setattr(write, "trace", lambda graph: None)
    monkeypatch.setattr(write, "write_onnx", lambda program, path, metadata: path.write_bytes(good))
    monkeypatch.setattr(write, "write_pt2", lambda program, path, metadata: path.write_bytes(b"module"))
    monkeypatch.setattr(write, "read_pt2", lambda path: lambda image, modal, noise: (noise[0], 1 - modal))
    with pytest.raises(UserError, match=r"model\.pt2 was not written"):
        write.export_model(exported.model, tmp_path / "model.onnx", pt2=tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_the_command(exported, tmp_path, monkeypatch, capsys):
    exported.model.save(tmp_path / "model.safetensors")
    good, seen = exported.onnx.read_bytes(), []
    monkeypatch.setattr(
        write, "trace", lambda graph: seen.append((graph.config.sampler.steps, graph.config.window.size))
    )
    monkeypatch.setattr(write, "write_onnx", lambda program, path, metadata: path.write_bytes(good))
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "new/model.onnx")]) == 0
    assert "% of the mask's pixels equal PyTorch's" in capsys.readouterr().out
    assert seen == [(1, 64)] and (tmp_path / "new/model.onnx").read_bytes() == good
    with pytest.raises(UserError, match="takes 'noise'"):  # the file was exported with one step
        write.export_model(load_model(tmp_path, "cpu"), tmp_path / "three.onnx", steps=3)
    with pytest.raises(UserError, match=r"takes 'image' as uint8 \(\d, 3, 64, 64\), not uint8 \(\d, 3, 96, 96\)"):
        write.export_model(load_model(tmp_path, "cpu"), tmp_path / "large.onnx", size=96)
    assert seen == [(1, 64), (3, 64), (1, 96)] and [*tmp_path.rglob("*.onnx")] == [tmp_path / "new/model.onnx"]
    command = ["export", str(tmp_path), "--out", str(tmp_path / "a.onnx"), "--size=256"]
    refused(capsys, command, "give a multiple of 32 from 32 to 128")


def test_mistakes_are_one_line(exported, tmp_path, monkeypatch, capsys):
    out = ["--out", str(tmp_path / "m.onnx")]
    refused(capsys, ["export", "convex_hull", *out], "'convex_hull' has no sampler to export")
    with pytest.raises(UserError, match="'convex_hull' has no sampler to export"):
        write.export_model("convex_hull", tmp_path / "m.onnx")
    refused(capsys, ["export", "absent.safetensors", *out], "absent.safetensors")
    exported.model.save(tmp_path / "model.safetensors")
    model = ["export", str(tmp_path)]
    refused(capsys, [*model, "--out", "m.pt"], "ends in .onnx")
    refused(capsys, [*model, *out, "--pt2", "m.zip"], "ends in .pt2")
    refused(capsys, [*model, *out, "--steps", "0"], "'0' is not a whole number of at least 1")
    refused(capsys, model, "--out")
    monkeypatch.setattr(write, "LIBRARIES", ("onnx", "library_that_is_not_there"))
    refused(capsys, [*model, *out], "export needs library_that_is_not_there", "pip install 'amodalseg[export]'")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
