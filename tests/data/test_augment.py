import pickle
import subprocess
import sys

import numpy as np
import pytest

from amodalseg.config.schema import AugmentConfig
from amodalseg.data.augment import Augment, jitter_modal
from tests.worlds import disc, photo

OFF = {"flip": 0.0, "scale": 0.0, "shift": 0.0, "rotate": 0.0, "color": 0.0, "grayscale": 0.0, "modal_jitter": 0.0}
SIZE = 48


def augment(**options):
    return Augment(AugmentConfig(**OFF | options))


@pytest.fixture
def sample():
    """Image, modal, amodal, occluder: an asymmetric scene of a disc behind another one."""
    amodal, occluder = disc(SIZE, SIZE, 22, 24, 15, 11), disc(SIZE, SIZE, 36, 20, 11, 16)
    return photo(np.random.default_rng(4), SIZE, SIZE), amodal & ~occluder, amodal, occluder


def call(changes, sample, seed):
    image, modal, amodal, occluder = sample
    return changes(image, modal, amodal, np.random.default_rng(seed), occluder)


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_all_off_changes_nothing(sample):
    image, modal, amodal, unknown, occluder = call(augment(), sample, 0)
    assert same((image, modal, amodal, occluder), sample) and not unknown.any() and unknown.dtype == bool


def test_inputs_are_not_modified_and_types_are_kept(sample):
    before = [array.copy() for array in sample]
    changes = augment(flip=1, rotate=30, color=1, grayscale=0.5, modal_jitter=1)
    for seed in range(10):
        image, modal, amodal, *_ = call(changes, sample, seed)
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        assert modal.shape == amodal.shape == (SIZE, SIZE) and modal.dtype == amodal.dtype == bool
    assert same(before, sample)


def test_augmentation_is_a_pure_function_of_the_generator(sample):
    options = {"flip": 0.5, "rotate": 20, "color": 0.5, "grayscale": 0.3, "modal_jitter": 0.7}
    changes = augment(**options)
    first = [call(changes, sample, seed) for seed in range(12)]
    others = augment(**options), pickle.loads(pickle.dumps(changes))
    for seed in reversed(range(12)):  # in another order, by a new instance, by an instance sent to a worker process
        for again in (changes, *others):
            assert same(call(again, sample, seed), first[seed])
    assert len({image.tobytes() for image, *_ in first}) > 6, "samples must differ between seeds"
    jitters = [augment(scale=0.2, shift=0.1).window_jitter(np.random.default_rng(3)) for _ in range(2)]
    assert jitters[0] == jitters[1]


def test_flip_and_colour_are_sampled_independently(sample):
    changes, seen = augment(flip=0.5, color=0.5), set()
    for seed in range(40):
        image, _, amodal, *_ = call(changes, sample, seed)
        flipped = np.array_equal(amodal, sample[2][:, ::-1])
        assert flipped or np.array_equal(amodal, sample[2])
        seen.add((flipped, np.array_equal(image, sample[0][:, ::-1] if flipped else sample[0])))
    assert len(seen) == 4


@pytest.mark.parametrize("options", [{"flip": 1.0}, {"rotate": 25.0}, {"flip": 0.5, "rotate": 90.0}])
def test_image_and_masks_are_transformed_alike(options):
    """The image shows the masks; where the transformed image clearly shows one, the transformed mask is True."""
    amodal, occluder = disc(SIZE, SIZE, 22, 24, 15, 11), disc(SIZE, SIZE, 36, 20, 11, 16)
    modal = amodal & ~occluder
    image = np.stack([modal, amodal, np.ones_like(modal)], axis=2).astype(np.uint8) * 255
    moved = False
    for seed in range(8):
        out, new_modal, new_amodal, *_ = call(augment(**options), (image, modal, amodal, occluder), seed)
        for channel, mask in ((0, new_modal), (1, new_amodal)):
            assert mask[out[..., channel] > 200].all() and not mask[out[..., channel] < 55].any()
        moved |= not np.array_equal(new_amodal, amodal)
    assert moved


def test_rotation_fills_with_zeros(sample):
    found = [call(augment(rotate=45.0), sample, seed)[0] for seed in range(4)]
    assert sample[0].min(axis=2)[0, 0] > 0
    assert any(not image[0, 0].any() for image in found)


def test_the_unknown_region_is_transformed_like_the_masks(sample):
    unknown = disc(SIZE, SIZE, 10, 38, 6, 9)
    for options in ({"flip": 1.0}, {"rotate": 40.0}, {"flip": 0.5, "rotate": 90.0, "modal_jitter": 1.0}):
        for seed in range(4):
            image, modal, amodal, occluder = sample
            plain = augment(**options | {"modal_jitter": 0.0})
            found = augment(**options)(image, modal, amodal, np.random.default_rng(seed), occluder, unknown)[3]
            # the same transform as of any other mask: pass the region in place of the amodal mask
            assert np.array_equal(plain(image, modal, unknown, np.random.default_rng(seed))[2], found)
            assert found.any() and not np.array_equal(found, unknown)
    changes = augment(flip=0.5, rotate=30.0, modal_jitter=1.0)
    alone = call(changes, sample, 5)
    with_it = changes(*sample[:3], np.random.default_rng(5), sample[3], unknown)
    assert same(alone[:3], with_it[:3]) and not alone[3].any(), "it changes nothing else"


def test_modal_stays_inside_amodal_in_every_transform():
    rng = np.random.default_rng(0)
    changes, image = augment(flip=0.5, rotate=180.0), np.zeros((SIZE, SIZE, 3), np.uint8)
    for _ in range(40):
        amodal = rng.random((SIZE, SIZE)) < 0.6
        modal = amodal & (rng.random((SIZE, SIZE)) < 0.5)
        _, new_modal, new_amodal, *_ = changes(image, modal, amodal, rng)
        assert new_modal.any() and not (new_modal & ~new_amodal).any()


def test_colour_jitter_changes_only_the_image(sample):
    for options in ({"color": 1.0}, {"grayscale": 1.0}):
        image, modal, amodal, *_ = call(augment(**options), sample, 1)
        assert not np.array_equal(image, sample[0])
        assert same((modal, amodal), sample[1:3])
    assert (np.ptp(image.astype(int), axis=2) == 0).all()


def test_transforms_that_lose_the_modal_mask_are_not_applied():
    corner = np.zeros((SIZE, SIZE), bool)
    corner[0, 0] = True  # every rotation except by multiples of 90 degrees moves it out of the window
    image = photo(np.random.default_rng(4), SIZE, SIZE)
    for seed in range(6):
        out, modal, amodal, *_ = augment(rotate=40.0, color=1.0)(image, corner, corner, np.random.default_rng(seed))
        assert np.array_equal(modal, corner) and np.array_equal(amodal, corner) and np.array_equal(out, image)


def test_modal_jitter_changes_only_the_modal_mask(sample):
    changes, differing = augment(modal_jitter=1.0, modal_jitter_px=3), 0
    for seed in range(20):
        image, modal, amodal, *_ = call(changes, sample, seed)
        assert same((image, amodal), (sample[0], sample[2])) and modal.any()
        differing += not np.array_equal(modal, sample[1])
    assert differing == 20


def test_kinds_of_modal_jitter(sample):
    _, modal, amodal, occluder = sample
    front = (amodal | occluder) & ~modal
    rows, columns = np.mgrid[:SIZE, :SIZE]

    def within(mask, pixels):
        """Slow dilation by a square: an upper bound of the reach."""
        grown = np.zeros_like(mask)
        for y, x in np.argwhere(mask):
            grown |= (abs(rows - y) <= pixels) & (abs(columns - x) <= pixels)
        return grown

    found = set()
    for seed in range(30):
        changed = jitter_modal(modal, front, 2, np.random.default_rng(seed))
        if not (modal & ~changed).any():
            assert (changed & ~modal).any() and not (changed & ~within(modal, 2)).any()
            found.add("dilate")
        else:
            assert not (changed & ~modal).any()
            lost = modal & ~changed
            assert not (lost & ~within(~modal, 2)).any()
            found.add("erode" if (lost & ~within(front, 2)).any() else "gap")
    assert found == {"dilate", "erode", "gap"}
    alone = np.zeros_like(front)
    changes = [jitter_modal(amodal, alone, 2, np.random.default_rng(seed)) for seed in range(20)]
    assert all(not np.array_equal(changed, amodal) for changed in changes), "no gap without something in front"


def test_modal_jitter_never_empties_the_mask():
    sliver = np.zeros((SIZE, SIZE), bool)
    sliver[20, 10:30] = True
    front = np.zeros_like(sliver)
    front[21:30] = True
    unchanged = 0
    for seed in range(30):
        changed = jitter_modal(sliver, front, 4, np.random.default_rng(seed))
        assert changed.any()
        unchanged += np.array_equal(changed, sliver)
    assert 0 < unchanged < 30


def test_window_jitter_stays_in_range():
    changes, rng = augment(scale=0.2, shift=0.1), np.random.default_rng(0)
    samples = [changes.window_jitter(rng) for _ in range(300)]
    scales, shifts = np.array([scale for scale, _ in samples]), np.array([shift for _, shift in samples])
    assert scales.min() >= 0.8 and scales.max() <= 1.2 and np.ptp(scales) > 0.3
    assert np.abs(shifts).max() <= 0.1 and (np.ptp(shifts, axis=0) > 0.15).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3
    assert augment().window_jitter(rng) == (1.0, (0.0, 0.0))


def test_importing_the_module_does_not_import_albumentations():
    code = "import sys, amodalseg.data.augment; sys.exit('albumentations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
