import sys
import types

import numpy as np
import pytest

from amodalseg import UserError
from amodalseg.models.inpainting.parts.removal import remove


def scene():
    picture = np.full((32, 32, 3), (10, 200, 90), np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[8:20, 10:25] = True
    picture[mask] = (250, 0, 0)
    return picture, mask


def test_an_object_on_a_uniform_ground_is_replaced_by_the_ground():
    picture, mask = scene()
    before = picture.copy()
    assert np.abs(remove(picture, mask).astype(int) - (10, 200, 90)).max() <= 2  # rounding errors
    assert np.array_equal(picture, before)


def test_only_the_mask_changes():
    rng = np.random.default_rng(0)
    picture, mask = rng.integers(0, 256, (32, 32, 3), np.uint8), scene()[1]
    done = remove(picture, mask)
    assert np.array_equal(done[~mask], picture[~mask]) and not np.array_equal(done[mask], picture[mask])


def test_empty_and_full_masks():
    picture, mask = scene()
    done = remove(picture, np.zeros_like(mask))
    assert np.array_equal(done, picture) and not np.shares_memory(done, picture)
    assert (remove(picture, np.ones_like(mask)) == 128).all()


def test_a_missing_lama_is_reported_in_one_line(monkeypatch):
    picture, mask = scene()
    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", None)
    with pytest.raises(UserError, match="pip install simple-lama-inpainting") as caught:
        remove(picture, mask, "lama")
    assert "\n" not in str(caught.value)


def test_lama_fills_only_the_mask_and_its_padding_is_removed(monkeypatch):
    picture, mask = scene()
    asked = []

    def fill(image, hole):
        asked.append(hole)
        return np.full((40, 40, 3), 7, np.uint8)

    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", types.SimpleNamespace(SimpleLama=lambda: fill))
    done = remove(picture, mask, "lama")
    assert (done[mask] == 7).all() and np.array_equal(done[~mask], picture[~mask])
    assert np.array_equal(asked[0] == 255, mask)
