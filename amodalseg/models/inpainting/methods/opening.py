"""From the options of a method to its inpainting model and its helper models."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior, InpaintingBackend
from amodalseg.models.inpainting.backends.hub_files import import_transformers
from amodalseg.models.inpainting.backends.prior import find_prior, import_diffusers
from amodalseg.models.inpainting.backends.word_files import find_word_prior
from amodalseg.models.inpainting.backends.word_prior import WordPrior
from amodalseg.models.inpainting.parts.depth import find_depth
from amodalseg.models.inpainting.parts.detector import find_detector
from amodalseg.models.inpainting.parts.removal import import_lama
from amodalseg.models.inpainting.parts.segmenter import find_segmenter
from amodalseg.models.inpainting.parts.words import find_word_segmenter

EMBEDDED, WORD_PRIOR = "embedded", "word_prior"
"""Names of the shipped priors."""


class Helpers(NamedTuple):
    """The helper models of a method besides its inpainting model, as named in its options; None and False: not used.

    segmenter, depth, words, detector: names for ``open_segmenter``, ``open_depth``, ``open_word_segmenter`` and
    ``open_detector``. lama: whether LaMa removes objects.
    """

    segmenter: str | None = None
    depth: str | None = None
    lama: bool = False
    words: str | None = None
    detector: str | None = None


def small_prior(name: str) -> tuple[type[EmbeddedPrior] | type[WordPrior], Path] | None:
    """The class and folder of a small prior on pixels, by the name in a backend's options; None for other models."""
    for cls, shipped, find in ((WordPrior, WORD_PRIOR, find_word_prior), (EmbeddedPrior, EMBEDDED, find_prior)):
        if name == shipped:
            return cls, find()
        try:
            return cls, find(name)
        except UserError:
            continue  # a model in the hub's layout, which has its own check
    return None


def check_backend(config: BackendConfig) -> None:
    """Detect problems before the first object: a missing model or library.

    Raises:
        UserError: with what to install, or to put where.
    """
    import_diffusers()
    prior = small_prior(config.name)
    if prior is not None and prior[0] is WordPrior:
        import_transformers()
    elif prior is None:
        from amodalseg.models.inpainting.backends.hub_models import check_hub_model

        check_hub_model(config)


def open_backend(config: BackendConfig, device: str | torch.device) -> InpaintingBackend:
    """Open an inpainting model. Raises UserError as ``check_backend``, and for files that cannot be used."""
    prior = small_prior(config.name)
    if prior is not None:
        cls, place = prior
        return cls(place, device)
    from amodalseg.models.inpainting.backends.hub_models import open_hub_model

    return open_hub_model(config, device)


def check_helpers(helpers: Helpers) -> None:
    """Detect missing helpers before the first object. Files may be downloaded now; no weights are loaded.

    Raises:
        UserError: with what to install, or to put where.
    """
    if helpers.lama:
        import_lama()
    if helpers.segmenter is not None:
        find_segmenter(helpers.segmenter)
    if helpers.depth is not None:
        find_depth(helpers.depth)
    if helpers.words is not None:
        find_word_segmenter(helpers.words)
    if helpers.detector is not None:
        find_detector(helpers.detector)
