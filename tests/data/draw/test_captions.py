"""The captioned world: reproducible scenes, exact ground truth, and captions that name exactly what is shown."""

import numpy as np
import pytest

from amodalseg.config.schema import CaptionsData
from amodalseg.data.draw.captioned import CaptionedPictures, HeldOutCaptions, draw_query, stack_captioned
from amodalseg.data.draw.captions import (
    COLOURS,
    FORMS,
    GROUNDS,
    MOST_HIDDEN,
    WORDS,
    CaptionedWorld,
    colour_shares,
    with_article,
)
from amodalseg.data.open import open_source
from amodalseg.errors import UserError

SIZE = 32


@pytest.fixture(scope="module")
def scenes():
    world = CaptionedWorld(CaptionsData(size=SIZE))
    return [world.scene(i) for i in range(80)]


def test_a_scene_is_a_pure_function_of_seed_split_epoch_and_index():
    world = CaptionedWorld(CaptionsData(size=SIZE, seed=3))
    first = world.scene(5, epoch=2)
    for i in (7, 0, 5):
        world.scene(i)
    again = CaptionedWorld(CaptionsData(size=SIZE, seed=3)).scene(5, epoch=2)
    assert np.array_equal(first.picture(), again.picture()) and first.caption() == again.caption()
    others = [
        world.scene(6, epoch=2), world.scene(5, epoch=3), world.scene(5),
        CaptionedWorld(CaptionsData(size=SIZE, seed=4)).scene(5, epoch=2),
        CaptionedWorld(CaptionsData(size=SIZE, seed=3, split="val")).scene(5, epoch=2),
    ]  # fmt: skip
    assert not any(np.array_equal(first.picture(), other.picture()) for other in others)


def test_scenes_have_up_to_two_things_of_different_colours_and_forms(scenes):
    assert {len(scene.things) for scene in scenes} == {0, 1, 2}
    for scene in scenes:
        assert len({thing.colour for thing in scene.things}) == len({thing.form for thing in scene.things})
        assert len({thing.colour for thing in scene.things}) == len(scene.things)
    assert {thing.form for scene in scenes for thing in scene.things} == set(FORMS)
    assert {thing.colour for scene in scenes for thing in scene.things} == set(COLOURS)
    assert {scene.ground for scene in scenes} == set(GROUNDS)


def test_captions_use_the_vocabulary_and_name_all_things(scenes):
    overlapping = 0
    for scene in scenes:
        caption = scene.caption()
        assert set(caption.split()) <= set(WORDS)
        assert f"{scene.ground} ground" in caption
        assert all(thing.name in caption for thing in scene.things)
        if len(scene.things) == 2:
            far, near = scene.things
            assert caption.index(near.name) < caption.index(far.name)
            hidden = bool((scene.amodal[0] & scene.amodal[1]).any())
            assert (" in front of " in caption) == hidden and (" and " in caption) != hidden
            overlapping += hidden
    assert overlapping > 5
    assert scenes[0].caption(ground=False).endswith(scenes[0].things[0].name)
    assert with_article("orange star") == "an orange star" and with_article("red star") == "a red star"


def test_things_have_their_named_colours(scenes):
    for scene in scenes:
        shares = colour_shares(scene.picture())
        for thing, modal in zip(scene.things, scene.modal, strict=True):
            assert shares[thing.colour] > 0.6 * modal.mean(), thing.name
        absent = set(COLOURS) - {thing.colour for thing in scene.things}
        # blended pixels between red and yellow are orange
        assert all(shares[colour] < 0.05 for colour in absent), scene.caption()


def test_ground_truth_is_exact(scenes):
    for scene in scenes:
        for whole, modal in zip(scene.amodal, scene.modal, strict=True):
            assert not (modal & ~whole).any() and modal.sum() >= (1 - MOST_HIDDEN) * whole.sum() > 0
        if len(scene.things) == 2:
            assert np.array_equal(scene.modal[0], scene.amodal[0] & ~scene.amodal[1])
            assert np.array_equal(scene.modal[1], scene.amodal[1])


def test_edits_change_only_their_thing(scenes):
    edited = 0
    for scene in scenes:
        before = scene.picture()
        for place, thing in enumerate(scene.things):
            touched = np.zeros((SIZE, SIZE), bool)  # including soft edges outside the mask
            y, x, (height, width) = thing.shape.y, thing.shape.x, thing.shape.alpha.shape
            touched[y : y + height, x : x + width] = thing.shape.alpha > 0
            other = next(colour for colour in COLOURS if colour not in {one.colour for one in scene.things})
            for after in (scene.without(place), scene.recoloured(place, other)):
                changed = (after.picture() != before).any(axis=-1)
                assert changed[scene.modal[place]].mean() > 0.9 and not changed[~touched].any()
                assert not changed[scene.cover(place) & ~touched].any()
            assert scene.recoloured(place, thing.colour).picture().tobytes() == before.tobytes()
            assert scene.recoloured(place, other).things[place].name == f"{other} {thing.form}"
            assert thing.name not in scene.without(place).caption()
            edited += 1
    assert edited > 50


def test_in_records_the_farther_of_two_things_is_occluded():
    world = open_source(CaptionsData(size=SIZE, num_objects=40))
    hidden = 0
    for index in range(len(world)):
        record = world.get(index)
        assert np.array_equal(record.modal, record.amodal & ~record.occluder)
        assert record.category in record.extra["caption"] and record.whole_rgb.shape == (SIZE, SIZE, 3)
        assert not record.whole_rgb[~record.amodal].any()
        shown = record.modal & (np.abs(record.whole_rgb.astype(int) - record.image).max(axis=-1) <= 60)
        assert shown.sum() > 0.8 * record.modal.sum()
        assert ("fully_visible" in record.flags) == (not record.occluded.any())
        hidden += bool(record.occluded.any())
    assert 5 < hidden < 35


def test_training_samples_are_determined_by_their_key_and_drawn_at_any_size():
    pictures = CaptionedPictures(CaptionedWorld(CaptionsData(num_objects=10, fresh=True)))
    one, same = (
        pictures[1, 3, 32],
        CaptionedPictures(CaptionedWorld(CaptionsData(num_objects=10, fresh=True)))[1, 3, 32],
    )
    assert np.array_equal(one.picture, same.picture) and one.caption == same.caption and one.query == same.query
    assert not np.array_equal(one.picture, pictures[2, 3, 32].picture)
    assert pictures[1, 3, 24].picture.shape == (24, 24, 3)
    old = CaptionedPictures(CaptionedWorld(CaptionsData(num_objects=10)))
    assert np.array_equal(old[1, 3, 32].picture, old[2, 3, 32].picture)  # only the captions vary between epochs
    batch = stack_captioned([pictures[0, i, 24] for i in range(5)])
    assert batch.picture.shape == (5, 3, 24, 24) and batch.mask.shape == (5, 1, 24, 24) and len(set(batch.keys)) == 5


def test_training_captions_are_sometimes_incomplete_and_never_wrong():
    pictures = CaptionedPictures(CaptionedWorld(CaptionsData(size=SIZE)))
    seen = [pictures[0, i, SIZE] for i in range(300)]
    assert any("thing" in one.caption for one in seen) and any(one.caption.startswith("a photo of") for one in seen)
    assert any(one.scene.things and "ground" not in one.caption for one in seen)
    for one in seen:
        assert set(one.caption.split()) <= set(WORDS) and set(one.query.split()) <= set(WORDS)
        said = {word for word in one.caption.split() if word in COLOURS}
        assert said <= {thing.colour for thing in one.scene.things}


def test_queries_match_their_masks(scenes):
    rng, kinds = np.random.default_rng(0), {"absent": 0, "thing": 0, "ground": 0}
    for scene in scenes * 4:
        query, mask = draw_query(rng, scene)
        words = set(query.split())
        if "ground" in words:
            assert np.array_equal(mask, ~scene.cover(-1)) and scene.ground in words
            kinds["ground"] += 1
        elif not mask.any():
            assert not any({thing.colour, thing.form} & words for thing in scene.things if not words & set(COLOURS))
            assert not words & {thing.colour for thing in scene.things}
            kinds["absent"] += 1
        else:
            named = [place for place, thing in enumerate(scene.things) if words & {thing.colour, thing.form}]
            assert len(named) == 1 and np.array_equal(mask, scene.modal[named[0]])
            kinds["thing"] += 1
    assert min(kinds.values()) > 15, kinds


def test_held_out_pictures_are_fixed_and_queried_by_full_names():
    held = HeldOutCaptions(CaptionedWorld(CaptionsData(num_objects=8, split="val")), SIZE)
    for place in range(8):
        one = held[place]
        assert np.array_equal(one.picture, held[place].picture) and one.mask.any()
        assert len(one.scene.things) == 1 + place % 2
        assert one.query in {thing.name for thing in one.scene.things} and one.query in one.caption


@pytest.mark.parametrize("options", [{"size": 8}, {"num_objects": 0}])
def test_invalid_options_are_refused(options):
    from amodalseg.config.load import build
    from amodalseg.config.schema import DataOnly

    with pytest.raises(UserError, match="must be between"):
        build(DataOnly, [("here", {"data": {"name": "captions", **options}})])
