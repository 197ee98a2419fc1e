"""``amodalseg predict`` through the command line: files, folders and COCO json; kills, failures and seeds."""

import json
import os
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch

from amodalseg import load_model, masks
from amodalseg.cli import main
from amodalseg.config.schema import CondDiffAMOConfig, DNConfig, PCNConfig, SamplerConfig, WindowConfig
from amodalseg.data.mask_files import read_mask_file as load_mask
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.weights import read_weights, save_weights
from amodalseg.types import stable_seed
from tests.worlds import coco_world, disc, edit_json, photo, write_photo


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model with random weights, whose predictions depend on the seed."""
    torch.manual_seed(0)
    config = CondDiffAMOConfig(
        window=WindowConfig(size=32), pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16),
        sampler=SamplerConfig(steps=2),
    )  # fmt: skip
    model, path = CondDiffAMO(config), tmp_path_factory.mktemp("model") / "model.safetensors"
    image, modal = np.zeros((50, 50, 3), np.uint8), disc(50, 50, 20, 20, 9, 9)
    probability = model.predict(image, modal).probability
    model.config.post.threshold = float(np.median(probability[(probability > 0) & ~modal]))
    model.save(path)
    return str(path)


@pytest.fixture
def folders(tmp_path):
    """Photos a, a_1 (grey) and b; masks a (ones and zeros), a_1_x, a.2, b_3, b_empty, b_large and c."""
    rng = np.random.default_rng(0)
    for name, pixels in (("a.jpg", photo(rng, 40, 50)), ("a_1.png", photo(rng, 30, 30)[..., 0]),
                         ("b.png", photo(rng, 45, 40))):  # fmt: skip
        write_photo(tmp_path / "images" / name, pixels)
    (tmp_path / "images/notes.txt").write_text("mine")
    shapes = {"a": (40, 50), "a_1_x": (30, 30), "a.2": (40, 50), "b_3": (45, 40), "b_empty": (45, 40),
              "b_large": (9, 9), "c": (9, 9)}  # fmt: skip
    for name, shape in shapes.items():
        mask = disc(*shape, shape[1] / 3, shape[0] / 2, 8, 7) & (name != "b_empty")
        write_photo(tmp_path / "masks" / f"{name}.png", mask.astype(np.uint8) * (1 if name == "a" else 255))
    return [f"--{name}={tmp_path / name}" for name in ("images", "masks", "out")]


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_the_command_equals_the_python_call(weights, folders, tmp_path, capsys):
    image, mask, out = tmp_path / "images/a.jpg", tmp_path / "masks/a.png", tmp_path / "new/out.png"
    options = ["--seed=3", "--num-samples=2", "--steps=1", f"--overlay={tmp_path / 'overlay'}"]
    assert main(["predict", weights, f"--image={image}", f"--mask={mask}", f"--out={out}", *options]) == 0
    found = read(out)
    modal = load_mask(mask)
    assert set(np.unique(found)) == {0, 255} and modal.sum() > 50
    pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    wanted = load_model(weights, "cpu").predict(pixels, modal, seed=3, num_samples=2, steps=1)
    assert ((found > 0) == wanted.amodal).all()
    assert (
        f"{wanted.occluded.sum()} occluded and {modal.sum()} visible pixels, score {wanted.score:.2f}"
        in capsys.readouterr().out
    )
    drawn = read(tmp_path / "overlay/a.png")
    assert drawn.shape == (40, 50, 3) and (drawn[~wanted.amodal] == read(image)[~wanted.amodal]).mean() > 0.8


def test_windows_of_another_size(weights, folders, tmp_path, capsys):
    image, mask, out = tmp_path / "images/a.jpg", tmp_path / "masks/a.png", tmp_path / "out.png"
    command = [f"--image={image}", f"--mask={mask}", f"--out={out}", "--size=64"]
    assert main(["predict", weights, *command]) == 0
    model, pixels = load_model(weights, "cpu"), cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    own = model.predict(pixels, load_mask(mask)).amodal
    model.override({"window": {"size": 64}})
    assert ((read(out) > 0) == model.predict(pixels, load_mask(mask)).amodal).all() and ((read(out) > 0) != own).any()
    assert main(["predict", "box", *command]) == 2
    assert "'box' sees the whole photo, not a window: leave --size out" in capsys.readouterr().err


def test_failures_in_a_folder_do_not_stop_the_rest(weights, folders, tmp_path, capsys):
    command = ["predict", weights, *folders, f"--overlay={tmp_path / 'overlay'}", "--batch-size=2"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "b_empty.png: the modal mask is empty" in error and "b_large.png: image and modal mask differ" in error
    assert "c.png: no photo" in error and "3 failed, the rest is done" in error
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "a.2.png",
        "a.png",
        "a_1_x.png",
        "b_3.png",
    ]
    assert read(tmp_path / "out/a.png").shape == (40, 50) and read(tmp_path / "out/a_1_x.png").shape == (30, 30)
    assert sorted(path.name for path in (tmp_path / "overlay").iterdir()) == ["a.png", "a_1.png", "b.png"]

    first = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out/b_3.png").unlink()
    (tmp_path / "out/a.png").write_bytes(first["b_3.png"])
    assert main(command) == 1
    shown = capsys.readouterr()
    assert "3 of 7 masks exist and are kept" in shown.out and "is of another photo; --overwrite" in shown.err
    assert (tmp_path / "out/b_3.png").read_bytes() == first["b_3.png"] == (tmp_path / "out/a.png").read_bytes()
    assert main([*command, "--overwrite"]) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")} == first


def test_folders_that_cannot_be_paired_are_refused(weights, folders, tmp_path, capsys):
    def refused(arguments, message):
        assert main(["predict", "box", *arguments]) == 2
        assert message in capsys.readouterr().err

    images, masks_, out = folders
    refused([images, masks_, f"--out={tmp_path / 'images'}"], "three different folders")
    refused([f"--images={tmp_path / 'none'}", masks_, out], "no folder at")
    write_photo(tmp_path / "images/a.png", np.zeros((9, 9, 3), np.uint8))
    refused(folders, "have the same name")
    (tmp_path / "empty").mkdir()
    refused([f"--images={tmp_path / 'empty'}", masks_, out], "holds no pictures")


@pytest.fixture
def coco(tmp_path):
    """A COCO file with keys of all kinds, which must be kept."""
    path, images = coco_world(tmp_path / "coco")

    def dress(content):
        content["info"] = {"year": 2026}
        for entry in content["annotations"]:
            entry |= {"area": 1.5, "bbox": [0, 0, 1, 1], "score": entry["id"] / 1000, "attributes": {"a": [1]}}

    edit_json(path, dress)
    return path, images


def command(coco, out, *more, model):
    return ["predict", model, f"--coco={coco[0]}", f"--images={coco[1]}", f"--out={out}", *more]


def test_coco_in_coco_out(coco, weights, tmp_path, capsys):
    out, overlay = tmp_path / "new/amodal.json", tmp_path / "overlay"
    assert main(command(coco, out, "--seed=5", f"--overlay={overlay}", model=weights)) == 0
    assert [path.name for path in out.parent.iterdir()] == ["amodal.json"]
    before, after = json.loads(coco[0].read_text()), json.loads(out.read_text())
    changed = {"segmentation", "area", "bbox", "amodal_score"}
    assert {key: value for key, value in after.items() if key != "annotations"} == {
        key: value for key, value in before.items() if key != "annotations"
    }
    model, images = load_model(weights, "cpu"), {image["id"]: image for image in before["images"]}
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        assert {k: v for k, v in new.items() if k not in {*changed, "modal_segmentation"}} == {
            k: v for k, v in old.items() if k not in changed
        }
        assert new["modal_segmentation"] == old["segmentation"]
        if old["iscrowd"]:
            assert new["segmentation"] == old["segmentation"] and new["area"] == 1.5 and "amodal_score" not in new
            continue
        size = images[old["image_id"]]["height"], images[old["image_id"]]["width"]
        modal = masks.decode(masks.from_segmentation(old["segmentation"], *size))
        amodal = masks.decode(masks.from_segmentation(new["segmentation"], *size))
        assert not (modal & ~amodal).any() and new["area"] == amodal.sum() > modal.sum()
        x, y, w, h = new["bbox"]
        assert masks.box_xyxy(amodal) == (x, y, x + w, y + h)
        assert isinstance(new["segmentation"]["counts"], str)
    old, new = before["annotations"][0], after["annotations"][0]
    size = images[old["image_id"]]["height"], images[old["image_id"]]["width"]
    pixels = cv2.cvtColor(cv2.imread(str(coco[1] / images[old["image_id"]]["file_name"])), cv2.COLOR_BGR2RGB)
    modal = masks.decode(masks.from_segmentation(old["segmentation"], *size))
    wanted = model.predict(pixels, modal, seed=stable_seed("annotation", 5, str(old["id"])))
    assert (masks.decode(masks.from_segmentation(new["segmentation"], *size)) != wanted.amodal).mean() < 0.01
    assert new["amodal_score"] == pytest.approx(wanted.score, abs=0.01)
    assert {path.suffix for path in overlay.iterdir()} == {".png"} and len(list(overlay.iterdir())) == 3
    assert main(command(coco, out, model=weights)) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_killed_run_resumes_and_writes_the_same_file(coco, weights, tmp_path, monkeypatch, capsys):
    whole, out = tmp_path / "whole.json", tmp_path / "cut.json"
    assert main(command(coco, whole, "--batch-size=1", model=weights)) == 0
    notes = tmp_path / "cut.json.partial.jsonl"

    predict_batch, calls = CondDiffAMO.predict_batch, []

    def killed(self, queries, **options):
        calls.append(len(queries))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return predict_batch(self, queries, **options)

    monkeypatch.setattr(CondDiffAMO, "predict_batch", killed)
    assert main(command(coco, out, "--batch-size=1", model=weights)) == 130
    assert not out.exists() and len(notes.read_text().splitlines()) == 5
    with notes.open("a") as file:
        file.write('{"965": {"segmentation": {"si')  # a line truncated by the kill
    monkeypatch.setattr(CondDiffAMO, "predict_batch", predict_batch)
    assert main(command(coco, out, "--batch-size=1", "--seed=1", model=weights)) == 2
    assert "was written with other options" in capsys.readouterr().err
    assert main(command(coco, out, "--batch-size=1", model=weights)) == 0
    assert "4 annotations are done; resuming" in capsys.readouterr().out
    assert out.read_bytes() == whole.read_bytes() and not notes.exists()


def cut_off(coco, out, weights, monkeypatch):
    """Start a run that is killed after its third object. Returns: its file of notes."""
    predict_batch, calls = CondDiffAMO.predict_batch, []

    def killed(self, queries, **options):
        calls.append(len(queries))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return predict_batch(self, queries, **options)

    monkeypatch.setattr(CondDiffAMO, "predict_batch", killed)
    assert main(command(coco, out, "--batch-size=1", model=weights)) == 130
    monkeypatch.setattr(CondDiffAMO, "predict_batch", predict_batch)
    notes = out.with_name(f"{out.name}.partial.jsonl")
    assert len(notes.read_text().splitlines()) == 4
    return notes


def negate(path):
    state, config, about = read_weights(path)
    save_weights(
        path, {key: -value if key.endswith("weight") else value for key, value in state.items()}, config, about
    )


def repaint(folder):
    for path in folder.iterdir():
        times = path.stat().st_mtime_ns
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(times + 1000, times + 1000))


@pytest.mark.parametrize("changed", ["the weights", "the annotations", "the photos"])
def test_predictions_of_changed_inputs_are_never_mixed(coco, weights, tmp_path, monkeypatch, capsys, changed):
    model, out, anew = tmp_path / "mine.safetensors", tmp_path / "out.json", tmp_path / "anew.json"
    shutil.copy(weights, model)
    cut_off(coco, out, str(model), monkeypatch)
    if changed == "the weights":
        negate(model)
    elif changed == "the photos":
        repaint(coco[1])
    else:
        edit_json(coco[0], lambda content: content.update(info={"year": 1}))
    capsys.readouterr()
    assert main(command(coco, out, "--batch-size=1", model=str(model))) == 0
    printed = capsys.readouterr().out
    assert f"{changed} have changed: predicting all annotations again" in printed and "resuming" not in printed
    assert main(command(coco, anew, "--batch-size=1", model=str(model))) == 0
    assert out.read_bytes() == anew.read_bytes()


def change_id(line):
    entry = json.loads(line)
    entry["prediction"]["id"] = 5
    return json.dumps(entry)


@pytest.mark.parametrize("spoil", [change_id, lambda line: line.replace('"area": ', '"area": 1'), lambda _: "[]",
                                   lambda _: "[" * 100_000, lambda line: line[:-5], lambda _: "\x00\xff"])  # fmt: skip
def test_invalid_lines_of_notes_are_recomputed(coco, weights, tmp_path, monkeypatch, capsys, spoil):
    out, anew = tmp_path / "out.json", tmp_path / "anew.json"
    notes = cut_off(coco, out, weights, monkeypatch)
    lines = notes.read_text().splitlines()
    notes.write_text("\n".join([*lines[:2], spoil(lines[2]), lines[3], ""]))
    capsys.readouterr()
    assert main(command(coco, out, "--batch-size=1", model=weights)) == 0
    printed = capsys.readouterr().out
    assert "1 lines of" in printed and "2 annotations are done; resuming" in printed
    assert main(command(coco, anew, "--batch-size=1", model=weights)) == 0
    assert out.read_bytes() == anew.read_bytes()


@pytest.mark.parametrize("head", ["", "{}", "null", '{"command": 1, "inputs": 2}'])
def test_notes_with_a_damaged_head_are_discarded(coco, weights, tmp_path, monkeypatch, capsys, head):
    out = tmp_path / "out.json"
    notes = cut_off(coco, out, weights, monkeypatch)
    notes.write_text("\n".join([head, *notes.read_text().splitlines()[1:], ""]))
    capsys.readouterr()
    assert main(command(coco, out, model="box")) == 0
    printed = capsys.readouterr().out
    assert "is damaged at its beginning" in printed and "resuming" not in printed


def test_predictions_do_not_depend_on_the_order_of_annotations(coco, weights, tmp_path):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    assert main(command(coco, one, "--batch-size=1", model=weights)) == 0
    edit_json(coco[0], lambda content: content["annotations"].reverse())
    assert main(command(coco, other, "--batch-size=1", model=weights)) == 0
    assert json.loads(one.read_text())["annotations"][::-1] == json.loads(other.read_text())["annotations"]


def test_annotations_that_fail_are_listed_and_left_out(coco, tmp_path, capsys):
    out = tmp_path / "out.json"

    def spoil(content):
        entries = {entry["id"]: entry for entry in content["annotations"]}
        entries[1000]["segmentation"] = []
        entries[993]["segmentation"] = {"size": [9, 9], "counts": [81]}
        entries[986]["segmentation"]["counts"] = [5]
        del entries[979]["segmentation"]
        content["images"][0]["height"] += 1

    edit_json(coco[0], spoil)
    (coco[1] / "000000000017.png").write_bytes(b"no picture")
    assert main(command(coco, out, f"--overlay={tmp_path / 'overlay'}", model="convex_hull")) == 1
    error = capsys.readouterr().err
    for part in ("annotation 1000: it has no segmentation", "annotation 993: image and modal mask differ in size",
                 "annotation 986: its mask cannot be read", "annotation 979: it has no segmentation",
                 "but the file says", "000000000017.png", "14 failed"):  # fmt: skip
        assert part in error, part
    kept = json.loads(out.read_text())["annotations"]
    assert len(kept) == 18 - 14 and sum(entry["iscrowd"] for entry in kept) == 3
    assert not list(tmp_path.glob("*.partial.jsonl"))


def test_results_of_a_detector(coco, tmp_path, capsys):
    content = json.loads(coco[0].read_text())
    found = [{key: entry[key] for key in ("image_id", "category_id", "segmentation", "score")}
             for entry in content["annotations"] if not entry["iscrowd"]]  # fmt: skip
    results, out = tmp_path / "results.json", tmp_path / "out.json"
    results.write_text(json.dumps(found))
    assert main(command((results, coco[1]), out, model="box")) == 2
    assert "--coco-images" in capsys.readouterr().err
    assert main(command((results, coco[1]), out, f"--coco-images={coco[0]}", model="box")) == 0
    after = json.loads(out.read_text())
    assert [entry["score"] for entry in after] == [entry["score"] for entry in found] and "id" not in after[0]
    assert all(entry["area"] == entry["bbox"][2] * entry["bbox"][3] for entry in after)
    found[0]["image_id"] = 12345
    results.write_text(json.dumps(found))
    assert main(command((results, coco[1]), out, f"--coco-images={coco[0]}", "--overwrite", model="box")) == 2
    assert "annotation without image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["box", "--out=a.png"], "give --image and --mask"),
        (["box", "--out=a.png", "--image=a.png"], "give --image and --mask"),
        (["box", "--out=a.png", "--image=a", "--mask=b", "--images=c"], "give --image and --mask"),
        (["box", "--out=a", "--images=a", "--masks=b", "--coco-images=c"], "give --image and --mask"),
        (["box", "--image=a.png", "--mask=b.png"], "required: --out"),
        (["bax", "--image=a.png", "--mask=b.png", "--out=c.png"], "did you mean 'box'"),
        (["box", "--image=a.png", "--mask=b.png", "--out=c.jpg"], "ends in .png"),
        (["box", "--image=a.png", "--mask=b.png", "--out=./a.png"], "would overwrite an input"),
        (["box", "--image=a.png", "--mask=b.png", "--out=c.png"], "cannot read the image a.png"),
        (["box", "--coco=a.json", "--images=absent", "--out=b.json"], "no image folder at absent"),
        (["box", "--coco=a.json", "--images=.", "--out=b.txt"], "ends in .json"),
        (["box", "--coco=a.json", "--images=.", "--out=a.json"], "would overwrite an input"),
        (["box", "--coco=a.json", "--images=.", "--out=b.json"], "cannot read a.json"),
        (["box", "--image=a.png", "--mask=b.png", "--out=c.png", "--steps=0"], "not a whole number of at least 1"),
        (["box", "--image=a.png", "--mask=b.png", "--out=c.png", "--seed=-1"], "not a whole number of at least 0"),
        (["box", "--image=a.png", "--mask=b.png", "--out=c.png", "--device=cpu:x"], "cannot read the image"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_deterministic_model_warns_once_about_samples(folders, capsys):
    assert main(["predict", "box", *folders, "--steps=3"]) == 1
    assert capsys.readouterr().err.count("no effect") == 1


def test_help_names_the_three_forms():
    import sys

    shown = subprocess.run([sys.executable, "-m", "amodalseg", "predict", "--help"], capture_output=True, text=True)
    assert all(option in shown.stdout for option in ("--mask", "--masks", "--coco", "--overlay", "--num-samples"))


@pytest.fixture
def film(tmp_path):
    """Two frames, each with a label map of two objects."""
    for number in range(2):
        write_photo(tmp_path / f"images/{number}.png", photo(np.random.default_rng(number), 40, 50))
        labels = np.select([disc(40, 50, 15, 20, 8, 7), disc(40, 50, 38, 20, 6, 9)], [1, 2 + number], 0)
        write_photo(tmp_path / f"masks/{number}.png", labels.astype(np.uint8))
    return [f"--{name}={tmp_path / name}" for name in ("images", "masks", "out")]


def test_each_label_of_a_mask_file_is_an_object(film, tmp_path, capsys):
    assert main(["predict", "modal", *film, f"--overlay={tmp_path / 'shown'}"]) == 0
    assert "4 of 4 masks are written" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == ["0_1.png", "0_2.png", "1_1.png", "1_3.png"] and len(list((tmp_path / "shown").iterdir())) == 2
    assert np.array_equal(read(tmp_path / "out/1_3.png") > 0, read(tmp_path / "masks/1.png") == 3)
    assert main(["predict", "modal", *film]) == 0
    assert "4 of 4 masks exist and are kept" in capsys.readouterr().out


def test_one_label_of_every_file(film, tmp_path, capsys):
    assert main(["predict", "modal", *film, "--label=2"]) == 0
    assert "1 of 2 mask files have no label 2: left out" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["0.png"]
    assert np.array_equal(read(tmp_path / "out/0.png") > 0, read(tmp_path / "masks/0.png") == 2)


def test_two_objects_with_one_output_file_are_refused(film, tmp_path, capsys):
    write_photo(tmp_path / "masks/0_1.png", np.full((40, 50), 255, np.uint8))
    assert main(["predict", "modal", *film]) == 2
    assert "two objects would both be written to" in capsys.readouterr().err


def test_existing_outputs_in_a_folder_are_kept_only_for_the_same_command(film, tmp_path, capsys):
    assert main(["predict", "modal", *film]) == 0
    assert main(["predict", "box", *film]) == 2
    assert "of other weights or options" in capsys.readouterr().err
    write_photo(tmp_path / "masks/0.png", 2 * disc(40, 50, 20, 20, 5, 5).astype(np.uint8))
    assert main(["predict", "modal", *film]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 masks are written" in printed and "2 of 3 masks exist" in printed
    for name in ("1_1", "1_3"):
        os.utime(tmp_path / f"out/{name}.png", ns=(1, 1))
    assert main(["predict", "modal", *film]) == 0
    assert "2 masks are older than their photo or mask file" in capsys.readouterr().out
    assert main(["predict", "box", *film, "--overwrite"]) == 0
