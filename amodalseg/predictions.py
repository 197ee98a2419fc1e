"""A model's output: the predicted mask of one object, or of several in one photo."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.probabilities import calibrated, entropy, expected_iou, uncalibrated


class Canvas(NamedTuple):
    """A prediction that extends beyond the photo, on a canvas that contains it.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3) RGB, or None. top, left: row and column of the
    canvas's first pixel in photo coordinates: 0, or negative where the canvas starts outside the photo.
    """

    mask: np.ndarray
    picture: np.ndarray | None
    top: int
    left: int


@dataclass(eq=False, repr=False)
class Prediction:
    """A model's prediction for one object. Stores small maps; full-size arrays are created on first access.

    A model that predicts at the photo's size provides maps of that size, and sets ``image`` if it generates one.
    Subclasses store the maps of a window, and override ``in_photo`` and ``raw_mask``, which map them back to the photo,
    and ``modal_in_map``.

    Attributes:
        modal: bool (H, W), the given modal mask.
        maps: float32 in [0, 1] or bool, (K, h, w), one for each of the K samples; here h, w are the photo's.
        threshold: map values above it belong to the object.
        union_visible: whether the final masks are united with the modal mask.
        has_probability: whether the maps hold probabilities rather than binary masks.
        calibration: scale and shift of the logits of the maps that turn them into probabilities (``calibrated``).
        seconds: this object's share of the wall time.
        evaluations: number of network evaluations for this object; 0 for models without a network.
        canvas: the prediction including what lies outside the photo, for models that extend beyond it; else None.
        moved: uint8 (H, W, 3), the photo after the move requested by ``Query.to``; None if there is none.
        moved_mask: bool (H, W), the whole object at its target, in front of everything else; None likewise.
        edited: uint8 (H, W, 3), the photo after the edit requested by ``Query.edit``; None if there is none or the
            model does not edit.
    """

    modal: np.ndarray
    maps: np.ndarray
    threshold: float = 0.5
    union_visible: bool = True
    _: KW_ONLY
    has_probability: bool = True
    calibration: tuple[float, float] = (1.0, 0.0)
    seconds: float = 0.0
    evaluations: int = 0
    canvas: Canvas | None = None
    moved: np.ndarray | None = None
    moved_mask: np.ndarray | None = None
    edited: np.ndarray | None = None

    def in_photo(self, values: np.ndarray) -> np.ndarray:
        """Map values (h, w) back to the photo, (H, W)."""
        return values

    def raw_mask(self, values: np.ndarray) -> np.ndarray:
        """Threshold a map (h, w) to a mask in the photo, a new array, bool (H, W)."""
        mask: np.ndarray = values > self.threshold
        return mask

    def modal_in_map(self) -> np.ndarray:
        """The modal mask at the size of the maps, bool (h, w)."""
        return self.modal

    def final_mask(self, values: np.ndarray) -> np.ndarray:
        """``raw_mask``, united with the modal mask if ``union_visible``."""
        mask = self.raw_mask(values)
        return np.logical_or(mask, self.modal, out=mask) if self.union_visible else mask

    @property
    def mean(self) -> np.ndarray:
        """float32 (h, w), the mean over the samples."""
        return np.asarray(self.maps.mean(axis=0, dtype=np.float32))

    @cached_property
    def amodal(self) -> np.ndarray:
        """bool (H, W), the model's final mask."""
        return self.final_mask(self.mean)

    @cached_property
    def raw(self) -> np.ndarray:
        """bool (H, W), the mask before union with the modal mask (equal to ``amodal`` without ``union_visible``)."""
        return self.raw_mask(self.mean)

    @property
    def occluded(self) -> np.ndarray:
        """bool (H, W): the predicted occluded region."""
        hidden: np.ndarray = self.amodal & ~self.modal
        return hidden

    @cached_property
    def probability(self) -> np.ndarray | None:
        """float32 (H, W) in [0, 1], the mean over the samples, zero outside the window; None for models without one.

        Calibrated if the model's options have a calibration (``post.calibration``).
        """
        return calibrated(self.in_photo(self.mean), *self.calibration) if self.has_probability else None

    @cached_property
    def uncertainty(self) -> np.ndarray | None:
        """float32 (H, W) in [0, 1], the entropy of ``probability`` in bits: 0 certain, 1 at probability one half.

        More samples (``num_samples``) give a better estimate of the probability, and thus of its entropy. It is 0
        outside the window, and on the modal mask if ``union_visible``; None for models without a probability.
        """
        if self.probability is None:
            return None
        there = self.probability
        return entropy(np.where(self.modal, np.float32(1), there) if self.union_visible else there)

    @cached_property
    def score(self) -> float | None:
        """The expected IoU of ``amodal`` with the true mask by ``probability``, in [0, 1], computed in the window.

        It is the ratio of the expected areas of intersection and union (``expected_iou``). It ranks objects: those of
        low score are worth checking. It is too high as an estimate, because a model's errors are correlated. None for
        models without a probability.
        """
        if not self.has_probability:
            return None
        mask, probability = self.mean > self.threshold, calibrated(self.mean, *self.calibration)
        if self.union_visible:
            visible = self.modal_in_map()
            mask, probability = mask | visible, np.where(visible, 1, probability)
        return expected_iou(probability, mask)

    @cached_property
    def samples(self) -> np.ndarray | None:
        """bool (K, H, W), the final masks of the individual samples if several were requested, else None."""
        return np.stack([self.final_mask(values) for values in self.maps]) if len(self.maps) > 1 else None

    @cached_property
    def image(self) -> np.ndarray | None:
        """uint8 (H, W, 3), the photo with the completion in ``occluded``; None for models that generate no picture."""
        return None

    def at(self, threshold: float) -> Prediction:
        """The same prediction with another threshold: lower values give a larger occluded region.

        Args:
            threshold: the probability above which a pixel belongs to the object, in (0, 1).

        Raises:
            UserError: the threshold is invalid; the model predicts no probability, or extends beyond the photo, where
                none is stored.
        """
        if not 0 < threshold < 1:
            raise UserError(f"threshold must be a number between 0 and 1, not {threshold!r}")
        if not self.has_probability:
            raise UserError("threshold has no effect on a model that predicts no probability; leave it out")
        if self.canvas is not None:
            raise UserError("the part beyond the photo has no probability: set this model's option post.threshold")
        found = copy(self)
        for name in ("amodal", "raw", "samples", "image", "score"):
            vars(found).pop(name, None)
        found.threshold = uncalibrated(threshold, *self.calibration)
        return found

    def to_coco(self, *, modal: bool = True) -> dict[str, Any]:
        """The object as a COCO annotation, without ids: ``segmentation`` (amodal) and ``modal_segmentation``.

        Both are compressed run lengths as text; ``area`` (pixels) and ``bbox`` (x, y, width, height) are those of the
        amodal mask, and ``amodal_score`` is its ``score`` if there is one (a detector's ``score`` is another).
        ``modal=False`` omits ``modal_segmentation``.
        """
        amodal = masks.encode(self.amodal)
        found: dict[str, Any] = {
            "segmentation": masks.as_text(amodal),
            "area": masks.area(amodal),
            "bbox": list(masks.box_xywh(amodal)),
        }
        if self.score is not None:
            found["amodal_score"] = round(self.score, 4)
        return found | {"modal_segmentation": masks.as_text(masks.encode(self.modal))} if modal else found

    def to_supervision(self) -> Any:
        """``supervision.Detections`` of one object, see ``PredictionStack.to_supervision``."""
        return _detections(self.amodal[None], self.modal[None], None if self.score is None else np.array([self.score]))

    def __repr__(self) -> str:
        height, width = self.modal.shape
        return (
            f"{type(self).__name__}(photo {width}x{height}, {self.modal.sum()} pixels visible, {self.occluded.sum()} "
            f"occluded, samples {len(self.maps)}, evaluations {self.evaluations}, {self.seconds:.3f} s)"
        )


@dataclass(eq=False, repr=False)
class PredictionStack(Sequence[Prediction]):
    """The predictions for a stack of N objects of one photo.

    ``modal``, ``amodal``, ``raw``, ``occluded``, ``probability`` and ``uncertainty`` are (N, H, W), ``samples`` is
    (N, K, H, W), ``score`` is (N,); ``seconds`` and ``evaluations`` are totals. ``stack[i]`` is the ``Prediction`` of
    one object, copied on each access: iterating over the objects of a large photo holds one object's full-size arrays
    at a time, whereas ``stack.amodal`` holds all of them.

    Args:
        members: the predictions, in the order of ``modal``.
        modal: bool (N, H, W).
        num_samples: samples per object, or None for a model without a probability; sets the shapes of an empty stack.
    """

    members: Sequence[Prediction]
    modal: np.ndarray
    num_samples: int | None = None

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> PredictionStack: ...
    def __getitem__(self, index: int | slice) -> Prediction | PredictionStack:
        if isinstance(index, slice):
            return PredictionStack(self.members[index], self.modal[index], self.num_samples)
        return copy(self.members[index])  # arrays that the copy creates are freed with it

    def at(self, threshold: float) -> PredictionStack:
        """The same predictions with another threshold, see ``Prediction.at``."""
        return PredictionStack([one.at(threshold) for one in self.members], self.modal, self.num_samples)

    def to_coco(self) -> list[dict[str, Any]]:
        """The objects as COCO annotations, see ``Prediction.to_coco``."""
        return [one.to_coco() for one in self]

    def to_supervision(self) -> Any:
        """``supervision.Detections``: masks, boxes, scores (``confidence``), and ``data["modal"]``, bool (N, H, W).

        Raises:
            UserError: the package is not installed.
        """
        return _detections(self.amodal, self.modal, self.score)

    def __repr__(self) -> str:
        count, height, width = self.modal.shape
        return f"PredictionStack(photo {width}x{height}, {count} objects, {self.seconds:.3f} s)"

    @cached_property
    def amodal(self) -> np.ndarray:
        return self._stacked("amodal", bool)

    @cached_property
    def raw(self) -> np.ndarray:
        return self._stacked("raw", bool)

    @cached_property
    def probability(self) -> np.ndarray | None:
        return None if self.num_samples is None else self._stacked("probability", np.float32)

    @cached_property
    def uncertainty(self) -> np.ndarray | None:
        return None if self.num_samples is None else self._stacked("uncertainty", np.float32)

    @cached_property
    def score(self) -> np.ndarray | None:
        return None if self.num_samples is None else np.array([one.score for one in self.members], float)

    @cached_property
    def samples(self) -> np.ndarray | None:
        return None if self.num_samples in (None, 1) else self._stacked("samples", bool, self.num_samples)

    @property
    def occluded(self) -> np.ndarray:
        hidden: np.ndarray = self.amodal & ~self.modal
        return hidden

    @property
    def seconds(self) -> float:
        return sum(member.seconds for member in self.members)

    @property
    def evaluations(self) -> int:
        return sum(member.evaluations for member in self.members)

    def _stacked(self, name: str, kind: type, *num_samples: int) -> np.ndarray:
        arrays: np.ndarray = np.zeros((len(self), *num_samples, *self.modal.shape[1:]), kind)
        for array, member in zip(arrays, self, strict=True):
            array[:] = getattr(member, name)
        return arrays


def _detections(amodal: np.ndarray, modal: np.ndarray, score: np.ndarray | None) -> Any:
    """Args: bool (N, H, W) twice, and float (N,) or None."""
    try:
        import supervision
    except ImportError as error:
        raise UserError("to_supervision() needs the package: pip install supervision") from error
    boxes = [masks.box_xyxy(mask) or (0, 0, 0, 0) for mask in amodal]
    return supervision.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4), mask=amodal, confidence=score, data={"modal": modal}
    )
