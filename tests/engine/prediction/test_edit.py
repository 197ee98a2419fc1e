"""Edits as a user makes them: one Python call, one command, a folder that is never overwritten."""

import json
import shutil

import numpy as np
import pytest

import amodalseg
from amodalseg import Region, UserError
from amodalseg.cli import main
from amodalseg.config.schema import BackendConfig, MRGDConfig
from amodalseg.data.images import load_image, save_png
from amodalseg.models.inpainting.methods.mrgd import MRGD
from amodalseg.report.regions_picture import COLOURS, regions_picture
from tests.models.inpainting.tiny_words import quick, save_words


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
    shutil.copy(folder / "photo.png", tmp_path)
    command = [
        "edit",
        "configs/edit/remove.yaml",
        f"image={tmp_path / 'photo.png'}",
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
    assert main([*command, f"model.inversion.folder={tmp_path / 'kept'}"]) == 0, "where inversions are kept is free"

    save_png(tmp_path / "photo.png", photo[:, ::-1])
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"{out} holds the edit of another photo: {tmp_path / 'photo.png'} has changed since" in error
    assert error.count("\n") == 1
    (tmp_path / "photo.png").unlink()
    assert main(command) == 0 and "already finished" in capsys.readouterr().out, "a photo that is gone has not changed"


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
        (["size=[72,64]"], "a picture of 72x64 (width x height) is too large for word_prior"),
        (["model.inversion.folder={out}"], "must be another folder than out="),
        (["model.inversion.folder=README.md"], "inversion.folder=README.md is a file: give a folder"),
        (["total.target=a zebra"], "'zebra' in 'a zebra' is unknown to word_prior"),
    ],
)
def test_each_mistake_is_one_line_and_nothing_is_written(place, tmp_path, capsys, more, message):
    out = tmp_path / "edit"
    options = [] if "model.name=telea" in more else place[1]
    assert main(["edit", "add", f"out={out}", *options, *(option.replace("{out}", str(out)) for option in more)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line and "Loading weights" not in line]
    assert len(said) == 1 and message in said[0] and not out.exists()


def test_a_model_that_does_not_edit_is_one_line():
    with pytest.raises(UserError, match="'modal' cannot edit: use mrgd"):
        amodalseg.edit([Region("a", "b")], model="modal")


@pytest.mark.parametrize(
    ("regions", "options", "message"),
    [
        (Region("a", "b"), {}, "regions must be a list of amodalseg.Region, not Region("),
        ("remove the fish", {}, "regions must be a list of amodalseg.Region, not 'remove the fish'"),
        ([("a", "b")], {}, "regions must be a list of amodalseg.Region"),
        (3, {}, "regions must be a list of amodalseg.Region, not 3"),
        ([Region(3, "b")], {}, "the texts of a region must be str or None, not (3, 'b')"),
        ([Region("a", "b", keywords="fish")], {}, "keywords must be a tuple of words: give ('fish',)"),
        ([Region("a", "b", "0123")], {}, "a box is four numbers"),
        ([Region("a", "b", (0, 0, 1))], {}, "a box is four numbers"),
        ([Region("a", "b", 3)], {}, "a box is four numbers"),
        ([Region("a", "b")], {"size": 24}, "size must be two numbers, width and height in pixels, not 24"),
        ([Region("a", "b")], {"size": (24, 16, 3)}, "size must be two numbers"),
        ([Region("a", "b")], {"size": (-8, 8)}, "the width of size must be a whole number of at least 8, not -8"),
        ([Region("a", "b")], {"size": (8, 8.0)}, "the height of size must be a whole number of at least 8, not 8.0"),
    ],
)
def test_arguments_of_other_types_are_one_line(place, regions, options, message):
    with pytest.raises(UserError) as error:
        amodalseg.edit(regions, model=MRGD(MRGDConfig()), **options)
    assert message in str(error.value)


def test_regions_may_be_any_iterable_and_boxes_any_sequence(place):
    _, options = place
    prior, segmenter = (option.partition("=")[2] for option in options[:2])
    model = MRGD(quick(backend=BackendConfig(name=prior), words=segmenter))
    regions = [Region("a grey ground", "a grey ground"), Region("a red star", None, (0.5, 0, 1, 1))]
    lists = (region._replace(box=region.box and np.array(region.box)) for region in regions)
    expected, found = (amodalseg.edit(some, size=(16, 16), model=model) for some in (regions, lists))
    assert np.array_equal(expected.target, found.target)


def test_the_picture_shows_boxes_in_the_colours_of_their_kinds():
    picture = np.full((64, 64, 3), 128, np.uint8)
    regions = [Region("grey", "grey"), Region(None, "fish", (0.5, 0.5, 1, 1)), Region("cup", None, (0, 0, 0.25, 0.25))]
    shown = regions_picture(picture, picture, regions)
    middle = shown.shape[1] // 2
    for kind, sides in (("added", (False, True)), ("removed", (True, False))):
        found = (shown == COLOURS[kind]).all(axis=-1)
        assert (found[:, :middle].any(), found[:, middle:].any()) == sides, kind
