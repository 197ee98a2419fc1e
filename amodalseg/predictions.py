"""What a model predicts: the mask of one object, or of several in one photo."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

from amodalseg import masks
from amodalseg.errors import UserError


class Canvas(NamedTuple):
    """A prediction that goes beyond the photo, which lies somewhere in it.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3) RGB, or None. top, left: row and column of the
    canvas's first pixel, counted in the photo: 0, or negative where the canvas begins before it.
    """

    mask: np.ndarray
    picture: np.ndarray | None
    top: int
    left: int


@dataclass(eq=False, repr=False)
class Prediction:
    """A model's prediction for one object: small maps; arrays of the photo's size are made when first asked for.

    A model that predicts at the photo's size gives maps of that size, and sets ``image`` if it draws one. Subclasses
    keep the maps of a window, and override ``in_photo`` and ``raw_mask``, which bring one map into the photo.

    Attributes:
        modal: bool (H, W), the mask that was given.
        maps: float32 in [0, 1] or bool, (K, h, w), one for each of the K samples; here h, w are the photo's.
        threshold: what lies above it belongs to the object.
        union_visible: whether the modal mask is united into the final masks.
        has_probability: whether the maps tell more than a mask.
        seconds: wall time of this object's share of the work.
        evaluations: of a network, for this object; 0 for models without one.
        canvas: the prediction with what lies outside the photo, of models that look there; else None.
        moved: uint8 (H, W, 3), the photo after the move that the query asks for (``Query.to``); None: for none.
        moved_mask: bool (H, W), the whole object at its new place, which lies over all else; None likewise.
        edited: uint8 (H, W, 3), the photo after the edit that the query asks for (``Query.edit``); None: for none, or
            from a model that does not edit.
    """

    modal: np.ndarray
    maps: np.ndarray
    threshold: float = 0.5
    union_visible: bool = True
    _: KW_ONLY
    has_probability: bool = True
    seconds: float = 0.0
    evaluations: int = 0
    canvas: Canvas | None = None
    moved: np.ndarray | None = None
    moved_mask: np.ndarray | None = None
    edited: np.ndarray | None = None

    def in_photo(self, values: np.ndarray) -> np.ndarray:
        """A map (h, w) -> (H, W)."""
        return values

    def raw_mask(self, values: np.ndarray) -> np.ndarray:
        """A map (h, w) -> mask in the photo, a new array, bool (H, W)."""
        mask: np.ndarray = values > self.threshold
        return mask

    def final_mask(self, values: np.ndarray) -> np.ndarray:
        """``raw_mask``, with the modal mask united into it if ``union_visible``."""
        mask = self.raw_mask(values)
        return np.logical_or(mask, self.modal, out=mask) if self.union_visible else mask

    @property
    def mean(self) -> np.ndarray:
        """float32 (h, w), over the samples."""
        return np.asarray(self.maps.mean(axis=0, dtype=np.float32))

    @cached_property
    def amodal(self) -> np.ndarray:
        """bool (H, W), the model's final mask."""
        return self.final_mask(self.mean)

    @cached_property
    def raw(self) -> np.ndarray:
        """bool (H, W), the mask before the modal mask was united into it (equal to ``amodal`` if that is off)."""
        return self.raw_mask(self.mean)

    @property
    def occluded(self) -> np.ndarray:
        """bool (H, W): predicted and not visible."""
        hidden: np.ndarray = self.amodal & ~self.modal
        return hidden

    @cached_property
    def probability(self) -> np.ndarray | None:
        """float32 (H, W) in [0, 1], the mean over the samples, zero outside the window; None for models without."""
        return self.in_photo(self.mean) if self.has_probability else None

    @cached_property
    def uncertainty(self) -> np.ndarray | None:
        """float32 (H, W) in [0, 1], the entropy of ``probability`` in bits: 0 certain, 1 as likely as not.

        More samples (``num_samples``) make the probability, and so this, a better estimate. 0 on the modal mask if
        ``union_visible``, and outside the window; None for models without probability.
        """
        if self.probability is None:
            return None
        found: np.ndarray = np.zeros_like(self.probability)
        unsure = (self.probability > 0) & (self.probability < 1)  # of a large photo a small part
        if self.union_visible:
            unsure &= ~self.modal
        p = self.probability[unsure].clip(1e-7, 1 - 1e-7)
        found[unsure] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        return found

    @cached_property
    def samples(self) -> np.ndarray | None:
        """bool (K, H, W), the final masks of the single samples of a model that was asked for several, else None."""
        return np.stack([self.final_mask(values) for values in self.maps]) if len(self.maps) > 1 else None

    @cached_property
    def image(self) -> np.ndarray | None:
        """uint8 (H, W, 3), the photo with the completion where ``occluded``; None for models that draw no picture."""
        return None

    def at(self, threshold: float) -> Prediction:
        """The same prediction with another threshold: a low one is generous with the hidden part, a high one cautious.

        Args:
            threshold: what lies above it belongs to the object, in (0, 1).

        Raises:
            UserError: no such number; a model that predicts no probability, or beyond the photo, where it keeps none.
        """
        if not 0 < threshold < 1:
            raise UserError(f"threshold must be a number between 0 and 1, not {threshold!r}")
        if not self.has_probability:
            raise UserError("threshold has no effect on a model that predicts no probability; leave it out")
        if self.canvas is not None:
            raise UserError("the part beyond the photo has no probability: set this model's option post.threshold")
        found = copy(self)
        for name in ("amodal", "raw", "samples", "image"):
            vars(found).pop(name, None)
        found.threshold = threshold
        return found

    def to_coco(self, *, modal: bool = True) -> dict[str, Any]:
        """The object as an annotation of COCO, without ids: ``segmentation`` (amodal) and ``modal_segmentation``.

        Both are compressed run lengths as text; ``area`` (pixels) and ``bbox`` (x, y, width, height) are the amodal
        mask's. With ``modal=False`` the second is left out.
        """
        amodal = masks.encode(self.amodal)
        found = {
            "segmentation": masks.as_text(amodal),
            "area": masks.area(amodal),
            "bbox": list(masks.box_xywh(amodal)),
        }
        return found | {"modal_segmentation": masks.as_text(masks.encode(self.modal))} if modal else found

    def to_supervision(self) -> Any:
        """``supervision.Detections`` of one object, see ``PredictionStack.to_supervision``."""
        return _detections(self.amodal[None], self.modal[None])

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
    (N, K, H, W), ``seconds`` the time and ``evaluations`` those of all. ``stack[i]`` is the ``Prediction`` of one
    object, made anew each time: going through a large photo object by object holds one object's full-size arrays at a
    time, where ``stack.amodal`` holds all.

    Args:
        members: the predictions, in the order of ``modal``.
        modal: bool (N, H, W).
        num_samples: samples of each object, or None for a model that has no probability: the shapes of an empty stack.
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
        return copy(self.members[index])  # what the copy makes goes when the copy goes

    def to_coco(self) -> list[dict[str, Any]]:
        """The objects as annotations of COCO, see ``Prediction.to_coco``."""
        return [one.to_coco() for one in self]

    def to_supervision(self) -> Any:
        """``supervision.Detections``: amodal masks and their boxes, with ``data["modal"]``, bool (N, H, W).

        Raises:
            UserError: the package is missing.
        """
        return _detections(self.amodal, self.modal)

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


def _detections(amodal: np.ndarray, modal: np.ndarray) -> Any:
    """Args: bool (N, H, W) each."""
    try:
        import supervision
    except ImportError as error:
        raise UserError("to_supervision() needs the package: pip install supervision") from error
    boxes = [masks.box_xyxy(mask) or (0, 0, 0, 0) for mask in amodal]
    return supervision.Detections(xyxy=np.array(boxes, np.float32).reshape(-1, 4), mask=amodal, data={"modal": modal})
