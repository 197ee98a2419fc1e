"""Moves with exact ground truth: the procedural world's pictures are unchanged, and a move changes only its areas."""

import hashlib
import json
import shutil
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodalseg import UserError, masks
from amodalseg.config.schema import MovesData, SyntheticData
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.draw.cover import Patch, random_direction
from amodalseg.data.draw.moves import Moves
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.draw.synthetic_paint import background, cast_shadow, lay, shade, texture
from amodalseg.data.open import open_source
from amodalseg.models import load_model, moving
from tests.worlds import coco_world

PICTURES = ("64b36402288dcf69505a6c62fd6e08c7", "f749f661561d035f28d81e0ff48ad3a0")
"""Of the world before its pictures were painted first and laid second."""
PAINT = "6bea577eaabcd842318376cb59503aad"
"""Of the painting below them, which is as it was: floating point differs between kinds of processors."""


def digest(config):
    world, found = SyntheticWorld(config), hashlib.blake2b(digest_size=16)
    for index in range(12):
        for epoch in (0, 3):
            record = world.get(index, epoch)
            found.update(record.key.encode() + record.image.tobytes() + record.whole_rgb.tobytes())
            for rle in (record.modal_rle, record.amodal_rle, record.occluder_rle):
                found.update(rle["counts"])
            found.update(f"{record.category}{record.order}{sorted(record.flags)}".encode())
    return found.hexdigest()


def paint_digest():
    found = hashlib.blake2b(digest_size=16)
    for seed in range(24):
        rng = np.random.default_rng(seed)
        canvas, light = background(rng, 96), random_direction(rng).astype(np.float32)
        alpha = np.clip(rng.normal(0.5, 0.4, (40, 56)), 0, 1).astype(np.float32)
        patch = Patch("x", alpha, shade(rng, texture(rng, 40, 56), alpha, light), x=20, y=10)
        cast_shadow(canvas, patch, light * rng.uniform(0, 5), rng.uniform(1, 3), 0.4)
        lay(canvas, patch)
        found.update(canvas.tobytes())
    return found.hexdigest()


def test_pictures_of_the_procedural_world_are_unchanged():
    if paint_digest() != PAINT:
        pytest.skip("this processor's floating point differs from that of the stored pictures")
    one = SyntheticData(split="test", num_objects=8)
    other = SyntheticData(num_objects=8, seed=7, size=96, rate_min=0.2, rate_max=0.5, unoccluded=0.4)
    assert (digest(one), digest(other)) == PICTURES


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    coco_world(folder, 6, seed=1)
    return MovesData(
        world="photos", split="val", num_objects=6, annotations=[str(folder / "instances_train.json")],
        images=[str(folder / "train")], rate_min=0.05, rate_max=0.7,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["synthetic", "photos"])
def drawn(request, photos):
    config = photos if request.param == "photos" else MovesData(num_objects=20, size=96)
    source = open_source(config)
    return config, source, [source.get(index) for index in range(len(source))]


def test_occlusion_rates_and_targets_are_as_configured(drawn):
    config, _, records = drawn
    for record in records:
        there, amodal = masks.decode(record.move.mask_rle), record.amodal
        assert config.rate_min <= record.occlusion_rate <= config.rate_max
        assert there.sum() == amodal.sum(), "the whole object lies inside before and after"
        assert (amodal & there).sum() < 0.25 * amodal.sum()
        shift = moving.shift_of(record.modal, record.move.to)
        assert np.array_equal(np.roll(amodal, shift[::-1], (0, 1)), there)
        assert record.move.picture.shape == record.image.shape and record.move.picture.dtype == np.uint8
        assert record.key.startswith(f"moves_{config.world}/{config.split}/")


def test_the_picture_after_the_move_shows_the_whole_object(drawn):
    """Its pixels are those of the record's whole object; only shadows and seams differ."""
    differences = []
    for record in drawn[2]:
        dx, dy = moving.shift_of(record.modal, record.move.to)
        whole = np.roll(record.whole_rgb, (dy, dx), (0, 1))
        there = masks.decode(record.move.mask_rle)
        differences.append(np.abs(record.move.picture[there].astype(int) - whole[there]).mean())
    assert np.median(differences) < 4


def test_pixels_away_from_origin_and_target_are_unchanged(drawn):
    for record in drawn[2]:
        near = masks.grown(record.amodal | masks.decode(record.move.mask_rle), 20)  # shadows and soft seams
        assert np.array_equal(record.image[~near], record.move.picture[~near])
        seen = record.occluder & ~masks.grown(masks.decode(record.move.mask_rle), 20) & ~masks.grown(record.modal, 20)
        assert np.array_equal(record.image[seen], record.move.picture[seen]), "what was in front of it stays"


def test_the_object_is_removed_from_its_origin(drawn):
    """Most visible pixels of the object's origin differ after the move."""
    changed = []
    for record in drawn[2]:
        origin = record.modal & ~masks.decode(record.move.mask_rle)
        differs = np.abs(record.image[origin].astype(int) - record.move.picture[origin]).max(axis=1)
        changed.append((differs > 8).mean())
    assert np.median(changed) > 0.8


def test_an_object_is_a_pure_function_of_its_index(drawn):
    config, source, records = drawn
    again = open_source(config).get(3)
    assert np.array_equal(again.move.picture, records[3].move.picture) and again.move.to == records[3].move.to
    assert np.array_equal(source.get(3).image, records[3].image) and again.key == records[3].key
    assert len({record.key for record in records}) == len(records)
    assert not np.array_equal(source.get(3, epoch=1).image, records[3].image)


def test_a_query_contains_the_target(drawn):
    source = drawn[1]
    record, query = EvaluationSet(source, 0)[1]
    assert query.to == record.move.to
    assert load_model("modal").predict_batch([query])[0].moved_mask.any()


OPTIONS = {
    "world": "photos", "annotations": [], "images": [], "split": "train", "num_objects": 4, "seed": 1, "size": 64,
    "max_side": 64, "skip_broken": True, "rate_min": 0.5, "rate_max": 0.3, "upright": True, "crowd": "complete",
    "outside": True,
}  # fmt: skip


def seen(config):
    try:
        source = open_source(config)
        records = [source.get(index) for index in range(3)]
    except UserError as error:
        return str(error)
    return [len(source), *(hashlib.sha1(r.image.tobytes() + r.move.picture.tobytes()).hexdigest() for r in records),
            *(r.key for r in records)]  # fmt: skip


def altered(config, option, folder):
    """The configuration with photos stored upside down, an object marked as a crowd, or absolute file names."""
    images = Path(config.images[0])
    content = json.loads(Path(config.annotations[0]).read_text())
    if option == "upright":
        shutil.copytree(images, folder / "turned")
        images = folder / "turned"
        for path in images.iterdir():
            with Image.open(path) as picture:
                exif = picture.getexif()
                exif[0x0112] = 3
                picture.save(path, exif=exif)
    if option == "crowd":
        content["annotations"][0]["iscrowd"] = 1
    if option == "outside":
        for entry in content["images"]:
            entry["file_name"] = str(images / entry["file_name"])
    (folder / "changed.json").write_text(json.dumps(content))
    return replace(config, images=[str(images)], annotations=[str(folder / "changed.json")])


@pytest.mark.parametrize("option", [field.name for field in fields(MovesData) if field.name != "name"])
def test_no_option_is_dead(option, photos, tmp_path):
    """Options that belong to one world are tested in that world."""
    base = replace(MovesData(num_objects=5, size=96, rate_min=0.3), rate_max=0.6)
    if option in ("annotations", "images", "max_side", "skip_broken"):
        base = photos
    if option in ("upright", "crowd", "outside"):
        base = altered(photos, option, tmp_path)
    if option == "skip_broken":
        broken = tmp_path / "broken"
        shutil.copytree(photos.images[0], broken)
        next(iter(sorted(broken.iterdir()))).write_bytes(b"no picture")
        base = replace(photos, images=[str(broken)])
    changed = replace(base, **{option: OPTIONS[option]})
    if option == "skip_broken":
        with pytest.warns(UserWarning, match="left out"):
            assert seen(base) != seen(changed)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about turned photos and crowds are tested with the readers
            assert seen(base) != seen(changed)


def test_invalid_ranges_of_occlusion_rates_are_refused():
    with pytest.raises(UserError, match="rate_min <= rate_max"):
        Moves(MovesData(rate_min=0.6, rate_max=0.5))
    with pytest.raises(UserError, match="rate_min"):
        Moves(MovesData(rate_min=0.0))
