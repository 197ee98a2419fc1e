"""From the options of a method to its inpainting model, and to the helpers that it uses besides."""

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
from amodalseg.models.inpainting.parts.removal import import_lama
from amodalseg.models.inpainting.parts.segmenter import find_segmenter
from amodalseg.models.inpainting.parts.words import find_word_segmenter

EMBEDDED, WORD_PRIOR = "embedded", "word_prior"
"""Names of the priors that ship."""


class Helpers(NamedTuple):
    """What a method uses besides an inpainting model, as its options name it; None and False: it does not.

    segmenter, depth, words: names, as ``open_segmenter``, ``open_depth`` and ``open_word_segmenter`` take them. lama:
    whether LaMa removes objects.
    """

    segmenter: str | None = None
    depth: str | None = None
    lama: bool = False
    words: str | None = None


def _prior_of(config: BackendConfig) -> Path | None:
    """The place of a small prior on pixels, as ``find_prior`` takes it; None for the other models."""
    if config.name == EMBEDDED:
        return find_prior()
    try:
        return find_prior(config.name)
    except UserError:
        return None  # a model as the hub has them: whether there is one, its own check says


def _word_prior_of(config: BackendConfig) -> Path | None:
    """The place of a prior that reads words, as ``find_word_prior`` takes it; None for the other models."""
    if config.name == WORD_PRIOR:
        return find_word_prior()
    try:
        return find_word_prior(config.name)
    except UserError:
        return None


def check_backend(config: BackendConfig) -> None:
    """Find what can be wrong before the first object: no such model, or a library that is missing.

    Raises:
        UserError: with what to install, or to put where.
    """
    import_diffusers()
    if _word_prior_of(config) is not None:
        import_transformers()
    elif _prior_of(config) is None:
        from amodalseg.models.inpainting.backends.hub_models import check_hub_model

        check_hub_model(config)


def open_backend(config: BackendConfig, device: str | torch.device) -> InpaintingBackend:
    """Open an inpainting model. Raises UserError as ``check_backend``, and for files that cannot be used."""
    word_prior = _word_prior_of(config)
    if word_prior is not None:
        return WordPrior(word_prior, device)
    prior = _prior_of(config)
    if prior is not None:
        return EmbeddedPrior(prior, device)
    from amodalseg.models.inpainting.backends.hub_models import open_hub_model

    return open_hub_model(config, device)


def check_helpers(helpers: Helpers) -> None:
    """Find what is missing before the first object. Files may be downloaded now; no weights are loaded.

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
