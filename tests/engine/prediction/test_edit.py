"""Edits as a user makes them: one Python call, one command, a folder that is never overwritten."""

import json

import numpy as np
import pytest

import amodalseg
from amodalseg import Region, UserError
from amodalseg.cli import main
from amodalseg.data.images import load_image, save_png
from amodalseg.report.regions_picture import COLOURS, regions_picture
from tests.models.inpainting.tiny_words import save_words


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a photo, a tiny prior and a tiny segmenter, and the options that name them."""
    folder = tmp_path_factory.mktemp("edits")
    prior, segmenter = save_words(folder)
    save_png(folder / "photo.png", np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8))
    options = [f"model.backend.name={prior}", f"model.words={segmenter}", "model.sampler.steps=2",
               "model.inversion.updates=1"]  # fmt: skip
    return folder, options


def test_from_a_configuration_to_a_folder_of_pictures(place, tmp_path, capsys):
    folder, options = place
    command = [
        "edit",
        "configs/edit/remove.yaml",
        f"image={folder / 'photo.png'}",
        f"out={tmp_path / 'edit'}",
        *options,
    ]
    assert main(command) == 0, capsys.readouterr().err
    assert "% of the picture changed" in capsys.readouterr().out
    photo, out = load_image(folder / "photo.png"), tmp_path / "edit"
    source, target = load_image(out / "source.png"), load_image(out / "target.png")
    assert (source == photo).all() and (target[:, :18] == photo[:, :18]).all() and (target != photo).any()
    told = json.loads((out / "edit.json").read_text())
    assert [one["kind"] for one in told["regions"]] == ["background", "kept", "removed"]
    assert told["regions"][2]["guided_by"] == ["a", "blue", "fish"] and told["evaluations"] > 0
    assert (told["width"], told["height"]) == (36, 24) and "commit" in told
    assert load_image(out / "regions.png").shape[1] > 1000

    before = (out / "target.png").stat().st_mtime_ns
    assert main(command) == 0 and "already finished" in capsys.readouterr().out
    assert (out / "target.png").stat().st_mtime_ns == before
    assert main([*command, "seed=3"]) == 2 and "holds another run (it differs in seed)" in capsys.readouterr().err


def test_without_a_photo_both_pictures_are_generated(place, tmp_path, capsys):
    _, options = place
    command = ["edit", "add", f"out={tmp_path / 'a'}", "size=[24,16]", "device=cpu", *options]
    assert main(command) == 0, capsys.readouterr().err
    assert load_image(tmp_path / "a/source.png").shape == (16, 24, 3)
    assert main([*command, f"out={tmp_path / 'b'}"]) == 0
    assert (tmp_path / "a/target.png").read_bytes() == (tmp_path / "b/target.png").read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["regions=[]"], "there is no region to edit"),
        (["regions=[{source: a, target: b, box: [0, 0, 1]}]"], "must be four numbers"),
        (["regions=[{source: a, target: b, box: [0, 0, 1, 2]}]"], "regions.0.box: 2.0 (must be between 0 and 1)"),
        (["regions=[{sorce: a}]"], "there is no option 'regions.0.sorce'; did you mean 'regions.0.source'?"),
        (["size=[8]"], "must be two numbers, width and height"),
        (["image=nowhere.jpg"], "cannot read the image nowhere.jpg"),
        (["model.name=telea"], "model.name=telea cannot edit"),
        (["image=a.png", "size=[8,8]"], "a photo keeps its size"),
        (["total.target=a zebra"], "'zebra' in 'a zebra' is unknown to word_prior"),
    ],
)
def test_each_mistake_is_one_line_and_nothing_is_written(place, tmp_path, capsys, more, message):
    out = tmp_path / "edit"
    options = [] if "model.name=telea" in more else place[1]
    assert main(["edit", "add", f"out={out}", *options, *more]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line and "Loading weights" not in line]
    assert len(said) == 1 and message in said[0] and not out.exists()


def test_a_model_that_does_not_edit_is_one_line():
    with pytest.raises(UserError, match="'modal' cannot edit: use mrgd"):
        amodalseg.edit([Region("a", "b")], model="modal")


def test_the_picture_shows_boxes_in_the_colours_of_their_kinds():
    picture = np.full((64, 64, 3), 128, np.uint8)
    regions = [Region("grey", "grey"), Region(None, "fish", (0.5, 0.5, 1, 1)), Region("cup", None, (0, 0, 0.25, 0.25))]
    shown = regions_picture(picture, picture, regions)
    middle = shown.shape[1] // 2
    for kind, sides in (("added", (False, True)), ("removed", (True, False))):
        found = (shown == COLOURS[kind]).all(axis=-1)
        assert (found[:, :middle].any(), found[:, middle:].any()) == sides, kind
