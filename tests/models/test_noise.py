"""The noise of an object, which depends only on its seed."""

import numpy as np
import pytest

from amodalseg.models.noise import sample_noise


def test_standard_normal_and_independent():
    noise = sample_noise([3, 4], 5, 64)
    assert noise.shape == (5, 2, 1, 64, 64) and noise.dtype == np.float32
    flat = noise.reshape(10, -1)
    assert abs(flat.mean()) < 0.02 and flat.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(flat) - np.eye(10)).max() < 0.08  # maps of 4096 numbers: 5 standard errors


def test_the_noise_of_an_object_depends_only_on_its_seed():
    together = sample_noise([7, 8, 7], 3, 32)
    assert (together[:, 0] == together[:, 2]).all() and (together[:, 0] != together[:, 1]).any()
    assert (together[:, 1:2] == sample_noise([8], 3, 32)).all()
    assert (sample_noise([8], 2, 32) == together[:2, 1:2]).all()  # fewer maps are the first ones of more
    assert sample_noise([], 3, 32).shape == (3, 0, 1, 32, 32)


def test_the_noise_equals_its_stored_values():
    """Published predictions and exported files depend on them."""
    np.testing.assert_allclose(
        sample_noise([0], 1, 32)[0, 0, 0, 0, :3], [-1.0343071, -1.1959894, -0.6779927], rtol=1e-6
    )
