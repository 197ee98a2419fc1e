"""MRGD (AAAI 2024) as a model: it edits photos by text, and completes objects by editing their occluders away.

The second is an adaptation: the paper only edits. docs/models.md maps the steps to equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from amodalseg.config.schema import MRGDConfig
from amodalseg.data.images import resize
from amodalseg.masks import box_xyxy
from amodalseg.models.base import check_query
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, within_memory
from amodalseg.models.inpainting.methods.completion import Completion, Crop
from amodalseg.models.inpainting.methods.edit_paste import paste_edit
from amodalseg.models.inpainting.methods.edit_request import check_request, check_side, layout, request_of
from amodalseg.models.inpainting.methods.editing import SIDE, Drawn, draw_edits, finds_keywords
from amodalseg.models.inpainting.methods.opening import Helpers
from amodalseg.models.inpainting.methods.progressive import Progressive
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.parts.small_segmenter import SmallSegmenter, numbers_of
from amodalseg.models.inpainting.parts.words import WordSegmenter, open_word_segmenter
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.steps.kept_inversions import KeptInversions
from amodalseg.predictions import Prediction
from amodalseg.types import EditRequest, Query, Region, stable_seed


class EditedPicture(NamedTuple):
    """An edit. source, target: uint8 (H, W, 3). keywords: of each region. evaluations: of the network."""

    source: np.ndarray
    target: np.ndarray
    keywords: list[tuple[str, ...]]
    evaluations: int


class MRGD(Progressive):
    """The method with its options; see ``MRGDConfig``.

    Its amodal masks come from this project's adaptation, and are labelled as such wherever they are printed.

    Args:
        config, backend: as for ``InpaintingMethod``.
        words: default: the text-driven segmenter named in the configuration, opened on first use.
    """

    config: MRGDConfig
    adaptation = "an editing method: what hides the object is edited away, and the mask read off"

    def __init__(
        self, config: Any, backend: InpaintingBackend | None = None, words: WordSegmenter | None = None
    ) -> None:
        self._words = words
        KeptInversions(config.inversion.folder)  # refuses a file before anything is predicted
        super().__init__(config, backend)

    def helpers(self, config: Any) -> Helpers:
        found = super().helpers(config)
        return found._replace(words=config.words) if _needs_segmenter(config) and self._words is None else found

    @property
    def words(self) -> WordSegmenter | None:
        """The text-driven segmenter; None if no loss needs it. Raises UserError if it cannot be opened."""
        if self._words is None and _needs_segmenter(self.config):
            self._words = open_word_segmenter(self.config.words, self.device)
        return self._words

    def edit(
        self,
        request: EditRequest,
        image: np.ndarray | None = None,
        seed: int = 0,
        size: tuple[int, int] | None = None,
        steps: int | None = None,
    ) -> EditedPicture:
        """Edit a photo, or a generated picture.

        Args:
            request: the edit.
            image: uint8 (H, W, 3), the photo; None: source and target are generated from the same noise.
            seed: of all random numbers, non-negative; a photo needs none.
            size: height and width of a generated picture, pixels; default: a square of the model's own size.
            steps: of the sampler; default: the model's own.

        Returns:
            For a photo, ``source`` is the photo itself, and ``target`` depends on the option ``paste``.

        Raises:
            UserError: as for ``check_request``; the model cannot generate this size; files or memory are missing.
        """
        height, width = (self.size, self.size) if size is None else size
        if image is not None:
            height, width = self.scene_size(*image.shape[:2])
        shown = np.zeros((height, width, 3), np.uint8) if image is None else resize(image, height, width)
        drawn = self._draw([request], [shown], [stable_seed("edit", seed)], image is not None, steps)
        source, target = (to_images(pictures)[0] for pictures in (drawn.sources, drawn.targets))
        if image is not None:
            if self.config.paste:
                target = paste_edit(image, source, target, request)
            source, target = image.copy(), resize(target, *image.shape[:2])
        return EditedPicture(source, target, drawn.keywords[0], drawn.evaluations)

    def _draw(
        self,
        requests: Sequence[EditRequest],
        pictures: Sequence[np.ndarray],
        seeds: Sequence[int],
        photo: bool,
        steps: int | None,
    ) -> Drawn:
        """Generate edits whose regions have the same positions, for pictures of one size."""
        height, width = pictures[0].shape[:2]
        words = self.words if self.config.regions else None
        for request in requests:
            check_request(request, self.backend, height, width)
            if finds_keywords(self.config):
                check_side(self.backend, height, width, SIDE)
            if isinstance(words, SmallSegmenter):
                numbers_of([text for region in request.regions for text in region[:2] if text])
        with within_memory(2 * len(requests)):  # sources and targets
            return draw_edits(
                self.config, self.backend, words, requests, to_pictures(pictures), seeds, photo=photo,
                steps=steps or self.config.sampler.steps,
            )  # fmt: skip

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        if self.config.completes:
            return super().predict_batch(queries, num_samples=num_samples, steps=steps)
        for query in queries:
            check_query(query)
        given = [Prediction(query.modal, np.repeat(query.modal[None], num_samples, 0)) for query in queries]
        return self.with_changes(queries, given, steps)

    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        """The adaptation. crops: ``occluder`` is everything that may occlude the object."""
        requests = [self._request(crop) for crop in crops]
        found: dict[int, Completion] = {}
        for group in _group_by_layout(requests):
            drawn = self._draw(
                [requests[i] for i in group], [crops[i].picture for i in group], [crops[i].seed for i in group],
                True, steps,
            )  # fmt: skip
            for index, picture in zip(group, to_images(drawn.targets), strict=True):
                found[index] = self._read(crops[index], picture, drawn.evaluations)
        return [found[index] for index in range(len(crops))]

    def _request(self, crop: Crop) -> EditRequest:
        """The square as regions: everything, the object with a margin, and the occluder, which is removed."""
        config = self.config
        assert crop.occluder is not None
        name = crop.category if crop.category and not self.backend.unknown(crop.category) else config.thing
        text, places = config.prompt.replace("{}", name), self.size // self.backend.abilities.multiple
        return request_of([
            Region(config.scene, config.scene),
            Region(text, text, _box(crop.modal, config.room, places)),
            Region(config.prompt.replace("{}", config.thing), None, _box(crop.occluder, 1.0, places)),
        ])  # fmt: skip

    def _read(self, crop: Crop, drawn: np.ndarray, calls: int) -> Completion:
        area = crop.occluder
        assert area is not None
        picture = np.where(area[..., None], drawn, crop.picture)
        behind = background(
            "removed", crop.picture, crop.modal, crop.generator(), occluder=area, how=self.config.removal
        )
        return Completion(self.read_off(picture, crop, area, behind, connected=True), picture, calls)

    def edit_photo(self, query: Query, prediction: Prediction, steps: int | None = None) -> np.ndarray:
        assert query.edit is not None
        done = self.edit(query.edit, query.image, query.seed, steps=steps)
        prediction.evaluations += done.evaluations
        return done.target

    def override(self, options: dict[str, Any]) -> dict[str, Any]:
        name = self.config.words
        own = super().override(options)
        if self.config.words != name:
            self._words = None
        return own

    def to(self, device: torch.device | str) -> MRGD:
        if str(device) != self.device:
            self._words = None
        return super().to(device)


def _needs_segmenter(config: MRGDConfig) -> bool:
    """Whether a loss needs the text-driven segmenter."""
    return config.regions and (config.losses.region > 0 or config.losses.similarity > 0)


def _group_by_layout(requests: Sequence[EditRequest]) -> list[list[int]]:
    """Indices of the edits, grouped by equal positions of their regions."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(layout(request), []).append(index)
    return list(groups.values())


def _box(mask: np.ndarray, room: float, places: int) -> tuple[float, float, float, float]:
    """The box of a mask, bool (S, S) and not empty, scaled about its centre by ``room`` and clipped to the square.

    Its ends are aligned to a grid of ``places`` x ``places``, so that it is never empty there.
    """
    found = box_xyxy(mask)
    assert found is not None
    (x0, y0, x1, y1), more, scale = found, (room - 1) / 2, places / len(mask)
    wide, high = more * (x1 - x0), more * (y1 - y0)
    first = (max(0, math.floor(end * scale)) / places for end in (x0 - wide, y0 - high))
    last = (min(places, math.ceil(end * scale)) / places for end in (x1 + wide, y1 + high))
    (left, top), (right, bottom) = first, last
    return left, top, right, bottom
