"""The noise that inference starts from: the same numbers for a trained model and for its exported file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodalseg.types import stable_seed


def sample_noise(seeds: Sequence[int], num_noise_maps: int, size: int) -> np.ndarray:
    """Standard normal maps, each object's from its own seed alone.

    NumPy's Philox samples them on the CPU on every machine, whatever computes afterwards: a predictor without PyTorch
    starts from the very same numbers.

    Args:
        seeds: one for each of B objects.
        num_noise_maps: maps that the sampler consumes for each object.
        size: S, pixels on a side.

    Returns:
        float32 (num_noise_maps, B, 1, S, S).
    """
    noise = np.empty((num_noise_maps, len(seeds), 1, size, size), np.float32)
    for index, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(stable_seed("noise", seed)))
        noise[:, index] = generator.standard_normal((num_noise_maps, 1, size, size), np.float32)
    return noise
