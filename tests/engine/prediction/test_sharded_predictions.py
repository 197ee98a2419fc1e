"""Shards of a prediction: merged, they equal a single run, in any order and after a kill; inputs are never mixed."""

import json
import shutil

import cv2
import numpy as np
import pytest

from amodalseg.cli import main
from tests.worlds import compressed, disc, photo, write_photo

SIZE = 48, 64


@pytest.fixture
def folder(tmp_path):
    entries, images = [], []
    for place in range(5):
        write_photo(tmp_path / f"images/{place}.png", photo(np.random.default_rng(place), *SIZE))
        images.append({"id": place, "file_name": f"{place}.png", "height": SIZE[0], "width": SIZE[1]})
        entries += [
            {"id": 10 * place + i, "image_id": 4 - place, "category_id": 1, "iscrowd": int(place == i == 1),
             "segmentation": compressed(disc(*SIZE, 14 + 9 * i, 20 + 8 * place, 9, 5))}
            for i in range(2)
        ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "categories": [], "annotations": entries}))
    return tmp_path


def predict(folder, *more, out="out.json"):
    given = [f"--coco={folder / 'a.json'}", f"--images={folder / 'images'}", f"--out={folder / out}"]
    return main(["predict", "convex_hull", *given, *more])


def merge(folder, *more):
    given = [f"--coco={folder / 'a.json'}", f"--images={folder / 'images'}", f"--out={folder / 'out.json'}"]
    return main(["merge", *given, *more])


def test_merged_shards_equal_a_single_run(folder, capsys):
    assert predict(folder, out="whole.json") == 0
    for index in (3, 1, 2):
        assert predict(folder, f"--shard={index}/3") == 0
    assert merge(folder) == 0
    assert (folder / "out.json").read_bytes() == (folder / "whole.json").read_bytes()
    assert not list(folder.glob("*.partial.jsonl"))
    capsys.readouterr()
    assert predict(folder, "--shard=2/3") == 0, "a second time"
    assert "shard 2-of-3 is done" in capsys.readouterr().out
    assert merge(folder) == 2
    assert "out.json exists; give another --out, or --overwrite" in capsys.readouterr().err
    assert merge(folder, "--overwrite") == 0


def test_each_photo_is_in_one_shard(folder):
    for index in (1, 2):
        assert predict(folder, f"--shard={index}/2") == 0
    one, two = (json.loads((folder / f"out.{i}-of-2.json").read_text())["predictions"] for i in (1, 2))
    assert one.keys().isdisjoint(two) and len(one) + len(two) == 9  # a crowd is not predicted
    assert sorted(one) == ["0", "1", "20", "21", "40", "41"]  # of photos 4, 2, 0


def test_failures_are_reported_by_the_shard_and_by_the_merge(folder, capsys):
    (folder / "images/1.png").write_bytes(b"no picture")
    assert [predict(folder, f"--shard={index}/2") for index in (1, 2)] == [0, 1]
    capsys.readouterr()
    assert merge(folder) == 1
    assert capsys.readouterr().err.count("failed: annotation 3") == 2
    assert len(json.loads((folder / "out.json").read_text())["annotations"]) == 8


def test_shards_of_different_runs_are_not_merged(folder, capsys):
    def refused(text):
        capsys.readouterr()
        assert merge(folder) == 2
        said = capsys.readouterr().err
        assert text in said and said.count("\n") == 1, said
        assert not (folder / "out.json").exists()

    refused("there are no shards out.1-of-N.json in")
    assert predict(folder, "--shard=1/3") == 0
    refused("2 of 3 shards of")
    assert predict(folder, "--shard=2/3", "--upright") == 0 and predict(folder, "--shard=3/3") == 0
    refused("were predicted with other options, weights or annotations")
    assert predict(folder, "--shard=2/3") == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert predict(folder, "--shard=2/3", "--overwrite") == 0
    shutil.copy(folder / "out.1-of-3.json", folder / "out.1-of-2.json")
    refused("holds shards of out.json in 2 and 3 parts")
    (folder / "out.1-of-2.json").unlink()
    whole = (folder / "out.1-of-3.json").read_text()
    (folder / "out.1-of-3.json").write_text(whole[:50])
    refused("is not shard 1-of-3 of a prediction, or it is damaged")
    (folder / "out.1-of-3.json").write_text(whole)
    content = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps({**content, "annotations": content["annotations"][:-1]}))
    refused("is not, or no longer, the file from which the shards")


def test_a_shard_with_a_changed_photo_is_recomputed(folder, capsys):
    assert predict(folder, "--shard=1/2") == 0
    write_photo(folder / "images/0.png", photo(np.random.default_rng(9), *SIZE))
    assert predict(folder, "--shard=1/2") == 2
    assert "is from other options, weights, annotations or photos" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_invalid_shards_are_refused(folder, capsys, text):
    assert predict(folder, f"--shard={text}") == 2
    assert "is not a part I/N with I from 1 to N" in capsys.readouterr().err


def test_shards_of_a_folder_write_to_the_same_folder(folder, capsys):
    (folder / "masks").mkdir()
    for place in range(5):
        for i in range(2):
            mask = disc(*SIZE, 14 + 9 * i, 20, 9, 5)
            cv2.imwrite(str(folder / f"masks/{place}_{i}.png"), mask.astype(np.uint8) * 255)

    def run(*more, out):
        places = [f"--images={folder / 'images'}", f"--masks={folder / 'masks'}", f"--out={folder / out}"]
        return main(["predict", "convex_hull", *places, *more])

    assert run(out="whole") == 0
    assert run("--shard=1/2", out="parts") == 0
    made = sorted(path.stem for path in (folder / "parts").glob("*.png"))
    assert made == ["0_0", "0_1", "2_0", "2_1", "4_0", "4_1"]
    assert run("--shard=2/2", out="parts") == 0
    for path in (folder / "whole").glob("*.png"):
        assert path.read_bytes() == (folder / "parts" / path.name).read_bytes()
    assert run("--shard=2/2", "--overwrite", out="parts") == 2
    assert "delete its content instead of using --overwrite" in capsys.readouterr().err
