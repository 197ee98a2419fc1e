"""Completion in rounds: while anything occludes the object, complete the square around it (paper 001)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from amodalseg.models.base import check_query, sample_seed
from amodalseg.models.inpainting.methods.base_method import InpaintingMethod
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.methods.opening import Helpers
from amodalseg.models.inpainting.methods.progress import Progress
from amodalseg.models.inpainting.parts.detector import Detector, open_detector
from amodalseg.models.inpainting.parts.occluders import find_occluders
from amodalseg.models.inpainting.parts.removal import remove
from amodalseg.predictions import Prediction
from amodalseg.types import Query, stable_seed

GROWN = 6 / 512  # of the side, at least one pixel: how far a hole extends beyond the occluder


@dataclass(eq=False, repr=False, kw_only=True)
class ProgressPrediction(Prediction):
    """A prediction with the inpainted pixels. work: the first sample's."""

    work: Progress

    @cached_property
    def image(self) -> np.ndarray:
        return self.work.image(self.amodal)


class Progressive(InpaintingMethod):
    """Subclasses complete squares whose ``occluder`` is everything that may occlude: occluders, and beyond the photo.

    Their ``config`` also has ``contact``, ``occluders``, ``depth``, ``detector``, ``sought`` and ``removal``.
    """

    _detector: tuple[str, str, Detector] | None = None
    """Name, device, and the model itself."""

    iterations = 1
    """Maximum number of rounds."""
    padding: float | None = None
    """Padding beyond a border that cuts the object off, in longer sides of its box; None: borders are ignored."""

    def helpers(self, config: Any) -> Helpers:
        # neighbours are segmented as well, independently of the read-off
        looks = config.depth or config.occluders != "given"
        segmenter = config.read_off.segmenter if looks else super().helpers(config).segmenter
        detector = config.detector or None if looks else None
        return Helpers(segmenter or None, config.depth or None, config.removal == "lama", detector=detector)

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        for query in queries:
            check_query(query)
        began = time.perf_counter()
        jobs = [(query, sample_seed(query.seed, number)) for query in queries for number in range(num_samples)]
        done: list[tuple[Progress, int]] = []
        for start in range(0, len(jobs), self.batch_size):
            done += self._run_rounds(jobs[start : start + self.batch_size], steps)
        alone = sum(not calls for _, calls in done[::num_samples])
        if alone:
            warnings.warn(
                f"{self.name}: {alone} of {len(queries)} objects have no known occluder, so they keep the given "
                "mask; give the occluder, or set model.depth or model.occluders=found",
                stacklevel=2,
            )
        share, post = (time.perf_counter() - began) / max(1, len(queries)), self.config.post
        predictions: list[Prediction] = []
        for index, query in enumerate(queries):
            works, calls = zip(*done[index * num_samples : (index + 1) * num_samples], strict=True)
            maps, canvas = [work.in_photo(work.read) for work in works], works[0].canvas(read=not post.union_visible)
            predictions.append(ProgressPrediction(
                query.modal, np.stack(maps), post.threshold, post.union_visible, seconds=share, evaluations=sum(calls),
                canvas=canvas, work=works[0],
            ))  # fmt: skip
        return self.with_changes(queries, predictions, steps)

    def _run_rounds(self, jobs: Sequence[tuple[Query, int]], steps: int | None) -> list[tuple[Progress, int]]:
        """Objects with the seeds of their samples -> their progress, and network evaluations for each."""
        how = self.config.occluders
        works = [
            Progress(
                query.image, query.modal, None if how == "found" else query.occluder, self.config.contact,
                self.padding is not None,
            )
            for query, _ in jobs
        ]  # fmt: skip
        calls, active = [0] * len(jobs), list(range(len(jobs)))
        for turn in range(self.iterations):
            windows, crops = {}, {}
            for index in active:
                (query, seed), work = jobs[index], works[index]
                seed = seed if turn == 0 else stable_seed(seed, "round", turn)
                window = work.window(self.size, (self.config.window.side - 1) / 2, self.padding or 0.0)
                if how != "given" or (self.config.depth and query.occluder is None):
                    work.cover(window, self._detect_occluders(work, window, seed))
                picture, found, hole, outside = work.view(window, max(1, round(GROWN * self.size)))
                if work.is_occluded() and hole.any():
                    # nothing is known outside the photo: pixels not inpainted there continue the photo's border
                    picture = remove(picture, outside, self.config.removal)
                    windows[index], crops[index] = window, Crop(picture, found, hole, seed, query.category)
            active = list(crops)
            if not active:
                break
            for index, completion in zip(active, self.complete(list(crops.values()), steps), strict=True):
                works[index].take(windows[index], completion.picture, completion.mask)
                calls[index] += completion.evaluations
        return list(zip(works, calls, strict=True))

    def _detect_occluders(self, work: Progress, window: Any, seed: int) -> np.ndarray:
        """Occluders detected by the models named in the options: bool (S, S)."""
        picture, found, _, outside = work.view(window, 0)
        picture = remove(picture, outside, self.config.removal)
        nearer = self.depth_model.nearer(picture) if self.config.depth else None
        segmenter = self.segmenter if self.config.read_off.segmenter else None
        rng = np.random.default_rng(stable_seed("occluders", seed))
        return find_occluders(picture, found, nearer, segmenter, rng, self._objects(picture)) & ~outside

    def _objects(self, picture: np.ndarray) -> list[np.ndarray] | None:
        """The detector's objects, bool (S, S) each: SAM's mask in each box, or the box itself; None without one."""
        name = self.config.detector
        if not name:
            return None
        if self._detector is None or self._detector[:2] != (name, self.device):
            self._detector = name, self.device, open_detector(name, self.device)
        masks = []
        for box in self._detector[2].boxes(picture, self.config.sought):
            if self.config.read_off.segmenter:
                masks.append(self.segmenter.segment_box(picture, box))
            else:
                masks.append(np.zeros(picture.shape[:2], bool))
                masks[-1][box[1] : box[3], box[0] : box[2]] = True
        return masks
