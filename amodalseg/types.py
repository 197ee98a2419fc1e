"""The vocabulary as code: what travels between the parts.

A reader yields ``AmodalRecord``; training cuts it to a ``Sample`` and stacks those to a ``Batch``; evaluation turns it
into a ``Query``, which a model answers with a ``Prediction``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.masks import Rle

if TYPE_CHECKING:
    from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed that depends on nothing but the given parts (Python's own ``hash`` differs between processes)."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class FilePart(NamedTuple):
    """A file that lies inside a larger one, for instance a photo in a tar shard.

    path: of the larger file. offset, length: of the part, bytes. name: of the part, for messages.
    """

    path: Path
    offset: int
    length: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"


Picture = Path | FilePart | np.ndarray
"""Where a photo is, or its pixels (uint8 HW3 RGB) if it was drawn on the fly."""


@dataclass(eq=False)
class AmodalRecord:
    """One annotated object. Masks stay run-length encoded, and the photo stays a path, until somebody asks.

    Attributes:
        dataset, split, image_id, object_id: together unique.
        image: the photo.
        modal_rle: the visible pixels, as a model is given them.
        amodal_rle: the whole object as annotated; None where only modal masks exist.
        modal_source: whose ``modal_rle`` is: ``gt`` (annotated), or the name of what predicted it.
        modal_score: of what predicted it, if it gives one.
        gt_modal_rle: the visible pixels as annotated where ``modal_rle`` is predicted (or where a tolerance takes the
            annotation for too thin), else None.
        order: depth rank in its image, 1 = nearest, if known.
        raw_rate: the occlusion rate stored in the file, if any; ``occlusion_rate`` is always recomputed.
        occluder_rle: what covers the object, if known.
        unknown_rle: where nobody knows whether the object goes on (training ignores these pixels); None: nowhere.
        whole_rgb: picture of the whole object alone, if known: pixels (zero outside the amodal mask), or a file.
        flags: any of ``empty_modal``, ``empty_amodal``, ``fully_visible``, ``touches_border``,
            ``modal_outside_amodal``, ``crowd``, ``size_mismatch``.
        group: what the object belongs to: ``annotator``; ``video``, ``frame``, ``track``; ``cluster``, ``rank``.
        extra: what else the file says. Stored quantities that are recomputed and only compared: ``area``, ``bbox``
            (amodal), ``modal_area``, ``modal_bbox``; boxes are x, y, width, height.
    """

    dataset: str
    split: str
    image_id: str
    object_id: str
    image: Picture
    modal_rle: Rle
    amodal_rle: Rle | None = None
    category_id: int | None = None
    category: str | None = None
    is_stuff: bool | None = None
    order: int | None = None
    raw_rate: float | None = None
    modal_source: str = "gt"
    modal_score: float | None = None
    gt_modal_rle: Rle | None = None
    occluder_rle: Rle | None = None
    unknown_rle: Rle | None = None
    whole_rgb: Picture | None = None
    flags: frozenset[str] = frozenset()
    group: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """``dataset/split/image/object``: names the object in rows, messages and random draws."""
        return f"{self.dataset}/{self.split}/{self.image_id}/{self.object_id}"

    @property
    def height(self) -> int:
        return int(self.modal_rle["size"][0])

    @property
    def width(self) -> int:
        return int(self.modal_rle["size"][1])

    @property
    def modal(self) -> np.ndarray:
        """bool (H, W), as a model is given it."""
        return masks.decode(self.modal_rle)

    @property
    def gt_modal(self) -> np.ndarray:
        """bool (H, W), as annotated. Equal to ``modal`` unless that is predicted."""
        return masks.decode(self.modal_rle if self.gt_modal_rle is None else self.gt_modal_rle)

    @property
    def amodal(self) -> np.ndarray:
        """bool (H, W), as annotated. Raises UserError where the data set has modal masks only."""
        if self.amodal_rle is None:
            raise UserError(f"{self.key} has no amodal mask: this data set annotates visible pixels only")
        return masks.decode(self.amodal_rle)

    @property
    def occluder(self) -> np.ndarray | None:
        """bool (H, W): what covers the object, or None if unknown."""
        return None if self.occluder_rle is None else masks.decode(self.occluder_rle)

    @property
    def unknown(self) -> np.ndarray | None:
        """bool (H, W): where nobody knows whether the object goes on, or None for nowhere."""
        return None if self.unknown_rle is None else masks.decode(self.unknown_rle)

    @property
    def occluded(self) -> np.ndarray:
        """bool (H, W): amodal and not modal, both as annotated."""
        hidden: np.ndarray = self.amodal & ~self.gt_modal
        return hidden

    @cached_property
    def occlusion_rate(self) -> float:
        """area(occluded) / area(amodal), in [0, 1]; 0 for an empty amodal mask."""
        amodal = self.amodal
        return float((amodal & ~self.gt_modal).sum() / max(1, amodal.sum()))


class Sample(NamedTuple):
    """One object cut to its window for training: uint8 arrays, normalised later on the device.

    image: uint8 (S, S, 3) RGB. masks: uint8 (4, S, S) in {0, 1}: modal, amodal, unknown, occluder (what is known to
    cover the object; 0 also where nobody knows). key: the record's.
    """

    image: np.ndarray
    masks: np.ndarray
    key: str


class Batch(NamedTuple):
    """A stack of samples.

    image: uint8 (B, 3, S, S). masks: uint8 (B, 4, S, S): modal, amodal, unknown, occluder. keys: B strings.
    """

    image: Tensor
    masks: Tensor
    keys: list[str]


@dataclass(eq=False)
class Query:
    """What a model is asked: complete this object in this photo.

    image: uint8 (H, W, 3) RGB. modal: bool (H, W), not empty. seed: of every random draw made for this object, from 0.
    occluder: bool (H, W) of what covers it, for methods that use it. category: name, for methods that use it.
    """

    image: np.ndarray
    modal: np.ndarray
    seed: int = 0
    occluder: np.ndarray | None = None
    category: str | None = None


class Canvas(NamedTuple):
    """An answer that goes beyond the photo, which lies somewhere in it.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3) RGB, or None. top, left: row and column of the
    canvas's first pixel, counted in the photo: 0, or negative where the canvas begins before it.
    """

    mask: np.ndarray
    picture: np.ndarray | None
    top: int
    left: int


@dataclass(eq=False, repr=False)
class Prediction:
    """A model's answer for one object: small maps, of which arrays of the photo's size are made when first asked for.

    A model that answers at the photo's size gives maps of that size, and sets ``image`` if it draws one. Subclasses
    keep the maps of a window, and override ``in_photo`` and ``raw_mask``, which bring one map into the photo.

    Attributes:
        modal: bool (H, W), the mask that was given.
        maps: float32 in [0, 1] or bool, (K, h, w), one for each of the K samples; here h, w are the photo's.
        threshold: what lies above it belongs to the object.
        union_visible: whether the modal mask is united into the final masks.
        has_probability: whether the maps tell more than a mask.
        seconds: wall time of this object's share of the work.
        evaluations: of a network, for this object; 0 for models without one.
        canvas: the answer with what lies outside the photo, of models that look there; else None.
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
    def samples(self) -> np.ndarray | None:
        """bool (K, H, W), the final masks of the single draws of a model that was asked for several, else None."""
        return np.stack([self.final_mask(values) for values in self.maps]) if len(self.maps) > 1 else None

    @cached_property
    def image(self) -> np.ndarray | None:
        """uint8 (H, W, 3), the photo with the completion where ``occluded``; None for models that draw no picture."""
        return None

    def __repr__(self) -> str:
        height, width = self.modal.shape
        return (
            f"{type(self).__name__}(photo {width}x{height}, {self.modal.sum()} pixels visible, {self.occluded.sum()} "
            f"occluded, samples {len(self.maps)}, evaluations {self.evaluations}, {self.seconds:.3f} s)"
        )


@dataclass(eq=False, repr=False)
class PredictionStack(Sequence[Prediction]):
    """The answers for a stack of N objects of one photo.

    ``modal``, ``amodal``, ``raw``, ``occluded`` and ``probability`` are (N, H, W), ``samples`` is (N, K, H, W),
    ``seconds`` the time and ``evaluations`` those of all. ``stack[i]`` is the ``Prediction`` of one object, made anew
    each time: going through a large photo object by object holds one object's full-size arrays at a time, where
    ``stack.amodal`` holds all.

    Args:
        members: the answers, in the order of ``modal``.
        modal: bool (N, H, W).
        draws: samples of each object, or None for a model that has no probability: the shapes of an empty stack.
    """

    members: Sequence[Prediction]
    modal: np.ndarray
    draws: int | None = None

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> PredictionStack: ...
    def __getitem__(self, index: int | slice) -> Prediction | PredictionStack:
        if isinstance(index, slice):
            return PredictionStack(self.members[index], self.modal[index], self.draws)
        return copy(self.members[index])  # what the copy makes goes when the copy goes

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
        return None if self.draws is None else self._stacked("probability", np.float32)

    @cached_property
    def samples(self) -> np.ndarray | None:
        return None if self.draws in (None, 1) else self._stacked("samples", bool, self.draws)

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

    def _stacked(self, name: str, kind: type, *draws: int) -> np.ndarray:
        arrays: np.ndarray = np.zeros((len(self), *draws, *self.modal.shape[1:]), kind)
        for array, member in zip(arrays, self, strict=True):
            array[:] = getattr(member, name)
        return arrays
