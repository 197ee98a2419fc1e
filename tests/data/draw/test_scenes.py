"""Training scenes: depth order visible in the pixels, unknown regions as annotated, and no degenerate scenes."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.cli import main
from amodalseg.config.schema import AugmentConfig, MixConfig, OccludeConfig, ScenesData, WindowConfig
from amodalseg.data.dataset import TrainingSet
from amodalseg.data.draw.scenes import NEAR, Scenes
from amodalseg.data.open import open_source
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.errors import UserError
from tests.engine.journeys import read_csv, train_arguments
from tests.worlds import compressed, disc, write_photo

KINDS = ("covered", "natural", "behind", "surface", "pair", "synthetic")
NUM_PHOTOS, HUES, SEAM = 4, 12, 11
"""Photos of the world, colours of its objects, and pixels around a soft seam that belong to nobody."""


def shapes_of(height, width):
    """Four objects whose masks do not overlap: a box in front of a ball, one truncated by the border, and a crowd."""
    box = np.zeros((height, width), bool)
    box[50:84, 16:56] = True
    ball = disc(height, width, 46, 40, 27, 25) & ~box
    return box, ball, disc(height, width, width - 8, 60, 26, 24), disc(height, width, width - 22, 14, 20, 9)


def colour(hue):
    """One of twelve hues of the same brightness."""
    turn = 2 * np.pi * (hue / HUES + np.array([0, 1 / 3, 2 / 3]))
    return 125 + 45 * np.cos(turn)


def write_world(folder, num_photos=NUM_PHOTOS):
    """Photos of distinct sizes; each object has its own hue under noise, so that pixels reveal their origin.

    Returns: the paths of the json file and of the photos, and {shape: (photo, masks of the objects, of the crowd)}.
    """
    rng, images, annotations, photos = np.random.default_rng(0), [], [], {}
    for number in range(num_photos):
        height, width = 92 + 4 * number, 120
        *objects, crowd = shapes_of(height, width)
        pixels = np.full((height, width, 3), 105.0 + 10 * number)
        for place, mask in enumerate(objects):
            pixels[mask] = colour(3 * number + place)
        pixels = (pixels + rng.integers(-5, 6, pixels.shape)).astype(np.uint8)
        write_photo(folder / "photos" / f"{number}.png", pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        annotations += [
            {"id": 10 * number + place, "image_id": number, "category_id": 1, "segmentation": compressed(mask),
             "iscrowd": int(mask is crowd)} for place, mask in enumerate((*objects, crowd))
        ]  # fmt: skip
        photos[height, width] = pixels, objects, crowd
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path, folder / "photos", photos


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def open_scenes(world, kind=None, *, occlude=None, **options):
    """Scenes of one kind, or of all."""
    mix = MixConfig(**{name: float(name == kind) for name in KINDS} if kind else dict.fromkeys(KINDS, 1.0))
    occlude = OccludeConfig(**{"rate_min": 0.1, "rate_max": 0.6, "scale_max": 2.0, **(occlude or {})})
    config = ScenesData(annotations=[str(world[0])], images=[str(world[1])], mix=mix, occlude=occlude, **options)
    return open_source(config)


def get_all(scenes, count=40):
    return [scenes.get(index) for index in range(count)]


@pytest.fixture
def nothing_on_top(monkeypatch):
    """Paste no occluders on top: objects are then occluded only by the photo's own ones."""
    monkeypatch.setattr(Scenes, "_cover", lambda self, rng, scene, source: None)


def grown(mask, pixels):
    """Slow dilation by a square."""
    result, padded = np.zeros_like(mask), np.pad(mask, pixels)
    for y in range(2 * pixels + 1):
        for x in range(2 * pixels + 1):
            result |= padded[y : y + mask.shape[0], x : x + mask.shape[1]]
    return result


def inner(mask):
    """A mask without the pixels near its edge, where soft seams mix two colours."""
    return cv2.erode(mask.astype(np.uint8), np.ones((SEAM, SEAM), np.uint8), borderValue=1) > 0


def is_own(record, world):
    """bool (H, W): where the picture shows exactly the pixels of its original photo."""
    photo = world[2][record.height, record.width][0]
    return (record.image == photo).all(axis=2)


def hue_of(pixels):
    """The most frequent hue of (N, 3) pixels, and its share."""
    angle = np.angle(pixels.astype(float) @ np.exp(-2j * np.pi * np.array([0, 1 / 3, 2 / 3])))
    votes = np.bincount(np.rint(angle / (2 * np.pi / HUES)).astype(int) % HUES, minlength=HUES)
    return int(votes.argmax()), votes.max() / votes.sum()


def same(one, other):
    def parts(record):
        return record.key, record.modal_rle, record.amodal_rle, record.occluder_rle, record.unknown_rle, record.extra

    return parts(one) == parts(other) and np.array_equal(one.image, other.image) and one.flags == other.flags


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_an_object_is_a_pure_function_of_seed_epoch_and_index(world, kind):
    scenes, again = open_scenes(world, kind), open_scenes(world, kind)
    first = get_all(scenes, 6)
    assert all(same(again.get(index), first[index]) for index in reversed(range(6)))
    assert same(scenes.get(3, epoch=2), again.get(3, epoch=2))
    others = [
        scenes.get(3, epoch=2), scenes.get(4), open_scenes(world, kind, seed=1).get(3),
        open_scenes(world, kind, split="other").get(3),
    ]  # fmt: skip
    assert not any(np.array_equal(other.image, first[3].image) for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_records_of_each_kind_are_consistent(world, kind):
    records = get_all(open_scenes(world, kind))
    for record in records:
        assert record.extra["kind"] == kind
        assert record.image.dtype == np.uint8 and record.image.shape == (record.height, record.width, 3)
        modal, amodal = record.modal, record.amodal
        assert modal.any() and not (modal & ~amodal).any()
        hidden = amodal & ~modal
        assert not (hidden & ~record.occluder).any() and not (modal & record.occluder).any()
        assert hidden.sum() <= 0.7 * amodal.sum() if kind == "synthetic" else modal.sum() >= 0.4 * amodal.sum()
        assert ("fully_visible" in record.flags) == (not hidden.any())
        assert (record.unknown_rle is not None) == (kind == "natural")
    assert any("fully_visible" not in record.flags for record in records)
    assert len({record.image.tobytes() for record in records}) == len(records)


def test_kinds_occur_with_their_shares(world):
    mix = MixConfig(covered=2, natural=0, behind=2, surface=1, pair=0, synthetic=3)
    config = ScenesData(annotations=[str(world[0])], images=[str(world[1])], mix=mix, num_objects=77)
    scenes = open_source(config)
    assert len(scenes) == 77
    kinds = [record.extra["kind"] for record in get_all(scenes, 160)]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    assert counts["natural"] == counts["pair"] == 0
    for kind, share in {"covered": 0.25, "behind": 0.25, "surface": 0.125, "synthetic": 0.375}.items():
        assert abs(counts[kind] - 160 * share) < 3.5 * np.sqrt(160 * share * (1 - share)), counts


@pytest.mark.parametrize("kind", ["covered", "natural", "synthetic"])
def test_unoccluded_is_the_share_of_scenes_without_pasted_occluders(world, kind):
    for share in (0.0, 0.5, 1.0):
        records = get_all(open_scenes(world, kind, occlude={"unoccluded": share}))
        visible = sum("fully_visible" in record.flags for record in records)
        low, high = {0.0: (0, 6), 0.5: (10, 31), 1.0: (40, 40)}[share]  # for a few no occluder fits
        assert low <= visible <= high, (share, visible)


def test_the_ground_truth_of_a_natural_scene_is_the_annotation(world):
    cut = covered = 0
    for record in get_all(open_scenes(world, "natural", occlude={"unoccluded": 0.3}), 60):
        _, objects, crowd = world[2][record.height, record.width]
        amodal, unknown = record.amodal, masks.decode(record.unknown_rle)
        which = next(place for place, mask in enumerate(objects) if np.array_equal(mask, amodal))
        others = crowd.copy()
        for place, mask in enumerate(objects):
            others |= mask if place != which else False
        assert np.array_equal(unknown, grown(others, NEAR) & ~amodal)
        assert unknown.any() and not (unknown & (record.modal | amodal)).any()
        assert is_own(record, world)[inner(record.modal)].all(), "what is visible is the photo's"
        hidden = inner(record.occluder) & amodal
        if hidden.any():
            covered += 1
            assert is_own(record, world)[hidden].mean() < 0.05, "known, and covered by something pasted"
        cut += which == 2
        assert amodal[:, -1].any() == (which == 2), "cut by the photo's border: the object ends there"
    assert cut > 5 and covered > 15


def test_objects_pasted_behind_the_photos_own_objects(world, nothing_on_top):
    records = [record for kind in ("behind", "surface") for record in get_all(open_scenes(world, kind, front=0.0), 30)]
    shown, beyond = {"behind": 0, "surface": 0}, 0
    for record in records:
        _, objects, _ = world[2][record.height, record.width]
        own, hidden = is_own(record, world), record.amodal & ~record.modal
        assert own[inner(~record.amodal)].all(), "the rest of the photo stays"
        assert own[inner(hidden)].all(), "hidden by what the photo shows in front"
        assert not (hidden & ~np.any(objects, axis=0)).any(), "by objects alone, never by a crowd's loose outline"
        in_front = [mask for mask in objects if (mask & hidden).any()]
        assert not hidden.any() or not (np.any(in_front, axis=0) & ~record.occluder).any(), "whole occluders are told"
        beyond += (record.occluder & ~record.amodal).any()
        # an object of the photo is either entirely in front or not at all
        for mask in objects:
            assert hidden[mask & record.amodal].mean() in (0, 1) if (mask & record.amodal).any() else True
        visible = inner(record.modal)
        if visible.sum() >= 30:
            assert own[visible].mean() < 0.05, "there the pasted one is seen"
            if record.extra["kind"] == "behind":
                hue, share = hue_of(record.image[visible])
                assert share > 0.85 and hue // 3 != list(world[2]).index((record.height, record.width))
        shown[record.extra["kind"]] += inner(hidden).any()
    assert min(shown.values()) > 8
    assert beyond > 20, "an occluder that ended where the object does would give the truth away"


@pytest.mark.parametrize("kind", ["behind", "surface"])
def test_objects_pasted_in_front_of_everything(world, kind, nothing_on_top):
    for record in get_all(open_scenes(world, kind, front=1.0), 30):
        assert np.array_equal(record.modal, record.amodal) and "fully_visible" in record.flags
        inside = inner(record.amodal)
        assert not inside.any() or is_own(record, world)[inside].mean() < 0.05


@pytest.mark.parametrize("kind", ["behind", "surface"])
def test_occluders_pasted_on_a_pasted_object_hide_it(world, kind):
    covered = 0
    for record in get_all(open_scenes(world, kind, front=1.0), 40):
        hidden = record.amodal & ~record.modal
        assert np.array_equal(hidden, record.occluder & record.amodal)
        covered += hidden.any()
        assert is_own(record, world)[inner(record.occluder)].mean() < 0.05 if inner(record.occluder).any() else True
    assert 8 < covered < 40


def test_a_pasted_object_may_be_truncated_by_the_border(world):
    records = get_all(open_scenes(world, "behind"))
    edges = [np.r_[r.amodal[0], r.amodal[-1], r.amodal[:, 0], r.amodal[:, -1]].any() for r in records]
    assert 3 < sum(edges) < len(records)


def test_both_objects_of_a_pair_occur_as_targets_and_the_nearer_one_is_unoccluded(world, nothing_on_top):
    nearer = 0
    for record in get_all(open_scenes(world, "pair"), 40):
        hidden = record.amodal & ~record.modal
        pasted = ~is_own(record, world)
        assert pasted[inner(record.amodal)].mean() > 0.95 if inner(record.amodal).any() else True
        if "fully_visible" in record.flags:
            nearer += 1
            around = grown(record.amodal, 3) & ~grown(record.amodal, 2)
            assert pasted[around].any(), "the farther one is seen beside it"
        else:
            assert 0.05 <= hidden.sum() / record.amodal.sum() <= 0.6
            assert np.array_equal(record.occluder & record.amodal, hidden)
    assert 5 < nearer < 25


@pytest.mark.parametrize("kind", ["covered", "natural", "behind", "surface", "pair"])
@pytest.mark.parametrize("window", [WindowConfig(size=64), WindowConfig(size=64, kind="c2f")], ids=["square", "c2f"])
def test_a_window_shows_what_the_whole_picture_shows(world, kind, window):
    scenes = open_scenes(world, kind)
    for index in range(12):
        scene, record = scenes.plan(index), scenes.get(index)
        assert np.array_equal(scene.modal, record.modal) and np.array_equal(scene.amodal, record.amodal)
        assert scene.key == record.key and (scene.unknown is None) == (record.unknown_rle is None)
        place = object_window(scene.modal, window)
        seen, cut = scene.crop(place).astype(int), crop_image(record.image, place).astype(int)
        difference = np.abs(seen - cut)
        # the same picture, except for the averaging of edges and grain
        assert difference.mean() < 4 and np.quantile(difference, 0.9) <= 12, (index, difference.mean())
        outside = crop_mask(np.ones_like(scene.modal), place)
        assert not seen[cv2.erode((~outside).astype(np.uint8), np.ones((3, 3))) > 0].any(), "black beyond the photo"


def test_shares_of_packs_as_hosts_targets_and_occluders(world, tmp_path):
    other = write_world(tmp_path / "other")
    files = {"annotations": [str(world[0]), str(other[0])], "images": [str(world[1]), str(other[1])]}
    one, two = (world[0].parent.name, "other")
    mix = MixConfig(covered=1, natural=1, behind=0, surface=0)
    shares = {"hosts": {one: 1.0}, "targets": {two: 1.0}, "occluders": {one: 0.2, two: 0.8}}
    scenes = open_source(ScenesData(**files, **shares, mix=mix))
    pasted = []
    for record in get_all(scenes, 60):
        pack = one if record.extra["kind"] == "natural" else two
        assert record.image_id.startswith(f"{pack}-instances-"), (record.image_id, record.extra)
        pasted += [name.split("/")[2].split("-")[0] for name in record.extra.get("occluders", [])]
    assert 0.6 < pasted.count(two) / len(pasted) < 0.95
    for role, text in (
        ({"hosts": {"othr": 1.0}}, "data.hosts.othr is not a pack of data; did you mean 'other'"),
        ({"targets": {two: -1.0}}, "data.targets.other=-1.0 must not be negative"),
        ({"occluders": {one: 0.0, two: 0.0}}, "the shares in data.occluders are all 0"),
    ):
        with pytest.raises(UserError, match=text):
            open_source(ScenesData(**files, **role, mix=mix))


def test_a_missing_pack_is_refused_or_skipped_with_a_message(world, tmp_path, caplog):
    absent = tmp_path / "absent/instances.json"
    files = {"annotations": [str(world[0]), str(absent)], "images": [str(world[1]), str(tmp_path)]}
    with pytest.raises(UserError, match=r"absent/instances\.json"):
        open_source(ScenesData(**files))
    with caplog.at_level("INFO", "amodalseg"):
        scenes = open_source(ScenesData(**files, missing="skip"))
    assert caplog.text.count(str(absent)) == 1
    assert scenes.get(0).modal.any()
    with pytest.raises(UserError, match=r"absent/instances\.json"):
        open_source(ScenesData(annotations=[str(absent)], images=[str(tmp_path)], missing="skip"))


def test_max_side_shrinks_the_scenes(world):
    for kind in ("natural", "behind", "surface", "pair"):
        record = open_scenes(world, kind, max_side=64).get(0)
        assert max(record.image.shape) == 64 and record.amodal.shape == record.image.shape[:2]


def small_mix(world, **shares):
    mix = MixConfig(**dict.fromkeys(KINDS, 0.0) | shares)
    return ScenesData(annotations=[str(world[0])], images=[str(world[1])], mix=mix)


@pytest.mark.parametrize("shares", [{}, {"covered": 1.0, "behind": -0.5}, {"covered": -1.0}])
def test_invalid_shares_are_refused(world, shares):
    with pytest.raises(UserError, match=r"data\.mix must not be negative, and one must be positive") as error:
        open_source(small_mix(world, **shares))
    assert "\n" not in str(error.value)


def test_photos_without_a_possible_scene_of_a_kind_are_refused(world, tmp_path):
    lonely = write_world(tmp_path, num_photos=1)
    with pytest.raises(UserError, match=r"no scene of the kind behind .*set data\.mix\.behind=0"):
        open_source(small_mix(lonely, behind=1.0)).get(0)
    assert open_source(small_mix(lonely, natural=1.0)).get(0).modal.any()
    tiny = dataclasses.replace(small_mix(world, natural=1.0), max_side=32)
    with pytest.raises(UserError, match="none of 16 objects has 256 pixels at max_side=32"):
        open_source(tiny)
    open_source(dataclasses.replace(small_mix(world, covered=1.0), max_side=32)).get(0)


def test_samples_contain_the_unknown_region(world):
    still = AugmentConfig(scale=0, shift=0, color=0, flip=1.0)
    window = WindowConfig(size=64)
    plain = TrainingSet(open_scenes(world, "natural"), window, None, 0, False)
    flipped = TrainingSet(open_scenes(world, "natural"), window, still, 0, False)
    for index in range(8):
        sample, mirror = plain[0, index], flipped[0, index]
        assert sample.image.shape == (64, 64, 3) and sample.masks.shape == (4, 64, 64)
        assert sample.masks.dtype == np.uint8 and set(np.unique(sample.masks)) == {0, 1}
        modal, amodal, unknown, _ = sample.masks
        assert modal.any() and not (modal & ~amodal & 1).any() and unknown.any() and not (unknown & amodal).any()
        assert np.array_equal(mirror.masks, sample.masks[..., ::-1])
        assert np.array_equal(mirror.image, sample.image[:, ::-1])
    others = TrainingSet(open_scenes(world, "behind"), window, still, 0, False)
    assert not others[0, 0].masks[2].any()


def test_fresh_scenes_differ_between_epochs(world):
    sets = [TrainingSet(open_scenes(world), WindowConfig(size=64), None, 0, fresh) for fresh in (True, False)]
    assert not np.array_equal(sets[0][0, 1].image, sets[0][1, 1].image)
    assert np.array_equal(sets[1][0, 1].image, sets[1][1, 1].image)


def test_training_on_scenes_through_the_command_line(world, tmp_path):
    arguments = [
        argument for argument in train_arguments(tmp_path / "run", "trainer.max_steps=2", "model.loss.hidden=1")
        if not argument.startswith("data.")
    ]  # fmt: skip
    scenes = [
        "data.name=scenes", f"data.annotations=[{world[0]}]", f"data.images=[{world[1]}]", "data.num_objects=8",
        "data.fresh=true", "data.mix.synthetic=0.1",
    ]  # fmt: skip
    assert main([*arguments, *scenes]) == 0
    rows = [row for row in read_csv(tmp_path / "run/metrics/version_0/metrics.csv") if row["train/loss"]]
    assert len(rows) == 2
    for row in rows:
        parts = [float(row[f"train/{name}"]) for name in ("bce", "iou", "hidden")]
        assert 0 < parts[2] <= 1 and np.isclose(float(row["train/loss"]), sum(parts), rtol=1e-4)


@pytest.mark.parametrize(
    ("option", "text"),
    [("data.mix.behind=-1", "data.mix.behind: -1.0 ("), ("data.front=1.5", "data.front: 1.5 ("),
     ("data.mix.cover=1", "did you mean 'data.mix.covered'"), ("model.loss.hidden=-1", "model.loss.hidden: -1.0 (")],
)  # fmt: skip
def test_mistakes_in_the_options_are_named(world, tmp_path, capsys, option, text):
    arguments = [a for a in train_arguments(tmp_path / "run") if not a.startswith("data.")]
    scenes = ["data.name=scenes", f"data.annotations=[{world[0]}]", f"data.images=[{world[1]}]", option]
    assert main([*arguments, *scenes]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
