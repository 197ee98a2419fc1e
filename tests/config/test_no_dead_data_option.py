"""No dead option: every option of the training data sets and of augmentation changes the batches."""

import shutil
import warnings

import pytest
from PIL import Image

from amodalseg.config.schema import (
    AugmentConfig,
    CaptionsData,
    CocoOccludeData,
    MixConfig,
    OccludeConfig,
    ScenesData,
    SyntheticData,
    WindowConfig,
)
from amodalseg.data.dataset import TrainingSet
from amodalseg.data.open import open_source
from amodalseg.errors import UserError
from tests.config.leaves import With, cases, changed, known
from tests.worlds import coco_world, edit_json

OCCLUDE = {
    "occlude.rate_min": 0.3, "occlude.rate_max": 0.4, "occlude.unoccluded": 0.9, "occlude.min_area": 0.06,
    "occlude.max_area": 0.06, "occlude.max_occluders": 1, "occlude.scale_min": 1.0, "occlude.scale_max": 1.0,
    "occlude.flip": False, "occlude.soft_edge": 0.0,
}  # fmt: skip
FILES = {
    "annotations": ["a/instances_train.json"], "images": ["other/train", "b/train"], "split": "val", "num_objects": 3,
    "seed": 1, "fresh": True, "max_side": 64,
    "skip_broken": With(True, images=["broken/train", "b/train"]),
    "crowd": "complete", "outside": With(True, annotations=["outside/instances_train.json", "b/instances_train.json"]),
    "upright": With(True, images=["turned/train", "b/train"]),
}  # fmt: skip
SCENES = {
    **FILES, **OCCLUDE, "missing": With("skip", annotations=["a/instances_train.json", "absent/instances_train.json"]),
    "hosts": {"a": 1.0}, "targets": {"a": 1.0}, "occluders": {"b": 1.0}, "cache_mb": 3, "front": 1.0,
    "mix.covered": 9.0, "mix.natural": 9.0, "mix.behind": 9.0, "mix.surface": 9.0, "mix.pair": 9.0,
    "mix.synthetic": 9.0,
}  # fmt: skip
SYNTHETIC = {
    "split": "val", "num_objects": 5, "seed": 1, "fresh": True, "size": 96, "rate_min": 0.5, "rate_max": 0.2,
    "unoccluded": 0.9,
}  # fmt: skip
CAPTIONS = {"split": "val", "num_objects": 5, "seed": 1, "fresh": True, "size": 96}
AUGMENT = {
    "flip": 0.0, "scale": 0.5, "shift": 0.4, "rotate": 40.0, "color": 0.0, "grayscale": 1.0, "modal_jitter": 1.0,
    "modal_jitter_px": With(9, modal_jitter=1.0),
}  # fmt: skip
PACKS = {"annotations": ["a/instances_train.json", "b/instances_train.json"], "images": ["a/train", "b/train"]}
BASES = {
    "scenes": ScenesData(**PACKS, num_objects=24, mix=MixConfig(pair=0.3), occlude=OccludeConfig(unoccluded=0.2)),
    "coco_occlude": CocoOccludeData(**PACKS, occlude=OccludeConfig(unoccluded=0.2)),
    "synthetic": SyntheticData(num_objects=6, size=64),
    "captions": CaptionsData(num_objects=6, size=64),
}
NUM = 24
"""Objects of each epoch that are looked at, at most."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Packs a and b; copies of a's photos with other pixels, one of them broken, rotated, or outside the folder."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("a", "b", "other")):
        coco_world(folder / name, 2, seed=seed)
    shutil.copytree(folder / "a", folder / "broken")
    next(iter(sorted((folder / "broken/train").iterdir()))).write_bytes(b"no picture")
    shutil.copytree(folder / "a", folder / "outside")

    def lead_out(content):
        for image in content["images"]:
            image["file_name"] = f"../train/{image['file_name']}"

    edit_json(folder / "outside/instances_train.json", lead_out)
    shutil.copytree(folder / "a", folder / "turned")
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (folder / "turned/train").iterdir():
        with Image.open(path) as picture:
            picture.save(path, exif=exif)
    return folder


@pytest.fixture(scope="module")
def batches(world):
    """(data configuration, augmentation) -> the training samples of two epochs, as hashes."""
    done = {}

    def see(config, augment=None):
        config = changed(config, {name: [str(world / one) for one in getattr(config, name)]
                                  for name in ("annotations", "images") if hasattr(config, name)})  # fmt: skip
        key = repr((config, augment))
        if key not in done:
            done[key] = look(config, augment)
        return done[key]

    return see


def look(config, augment):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = open_source(config)
    except UserError as error:
        return str(error)
    samples = TrainingSet(source, WindowConfig(size=32), augment, 0, config.fresh)
    # the size of the photo cache changes no batch, but it is an option too
    seen = [len(source), getattr(getattr(source, "photos", None), "max_bytes", None)]
    for epoch in range(2):
        for index in range(min(NUM, len(source))):
            image, masks, key = samples[epoch, index]
            seen.append((hash(image.tobytes()), hash(masks.tobytes()), key))
    return seen


def assert_alive(name, option, value, others, batches):
    known(option, value)
    one, other = changed(BASES[name], others), changed(BASES[name], {**others, option: value})
    assert batches(one) != batches(other), f"data.{option}={value} of {name} changes no batch"


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["scenes"], SCENES, "name"))
def test_scenes(option, value, others, batches):
    assert_alive("scenes", option, value, others, batches)


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["coco_occlude"], {**FILES, **OCCLUDE}, "name"))
def test_coco_occlude(option, value, others, batches):
    assert_alive("coco_occlude", option, value, others, batches)


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["synthetic"], SYNTHETIC, "name"))
def test_synthetic(option, value, others, batches):
    assert_alive("synthetic", option, value, others, batches)


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["captions"], CAPTIONS, "name"))
def test_captions(option, value, others, batches):
    assert_alive("captions", option, value, others, batches)


@pytest.mark.parametrize(("option", "value", "others"), cases(AugmentConfig(), AUGMENT))
def test_augment(option, value, others, batches):
    known(option, value)
    one, other = changed(AugmentConfig(), others), changed(AugmentConfig(), {**others, option: value})
    data = BASES["synthetic"]
    assert batches(data, one) != batches(data, other), f"augment.{option}={value} changes no batch"


@pytest.mark.parametrize("name", BASES)
def test_the_same_options_give_the_same_batches(name, batches, world):
    config = changed(BASES[name], {"seed": 0})
    first = batches(config)
    assert isinstance(first, list) and len(first) >= 2 + 2 * 6
    config = changed(config, {part: [str(world / one) for one in getattr(config, part)]
                              for part in ("annotations", "images") if hasattr(config, part)})  # fmt: skip
    assert look(config, None) == first


def test_an_option_without_effect_fails_by_name(batches):
    with pytest.raises(AssertionError, match=r"data\.seed=0 of synthetic changes no batch"):
        assert_alive("synthetic", "seed", 0, {}, batches)
    with pytest.raises(AssertionError, match="new is new"):
        assert_alive("synthetic", "new", None, {}, batches)
