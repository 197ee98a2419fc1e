"""The noise from which inference starts: the same numbers for a trained model and its exported file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodalseg.types import stable_seed


def sample_noise(seeds: Sequence[int], num_noise_maps: int, size: int) -> np.ndarray:
    """Standard normal maps, each object's from its own seed alone.

    They are sampled on the CPU by NumPy's Philox, whatever device or library computes afterwards: a predictor without
    PyTorch starts from exactly the same numbers.

    Args:
        seeds: one for each of B objects.
        num_noise_maps: maps that the sampler needs for each object.
        size: S, pixels on a side.

    Returns:
        float32 (num_noise_maps, B, 1, S, S).
    """
    noise = np.empty((num_noise_maps, len(seeds), 1, size, size), np.float32)
    for index, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(stable_seed("noise", seed)))
        noise[:, index] = generator.standard_normal((num_noise_maps, 1, size, size), np.float32)
    return noise
