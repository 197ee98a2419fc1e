"""The shared data types, passed between the parts of the package.

A reader yields ``AmodalRecord``; training crops it to a ``Sample`` and stacks samples into a ``Batch``; evaluation
turns it into a ``Query``, for which a model returns a ``Prediction``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.masks import Rle

if TYPE_CHECKING:
    from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed that depends only on the given parts (Python's own ``hash`` differs between processes)."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class FilePart(NamedTuple):
    """A file stored inside a larger one, for instance a photo in a tar shard.

    path: the larger file. offset, length: position and size of the part, bytes. name: of the part, for messages.
    """

    path: Path
    offset: int
    length: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"


Picture = Path | FilePart | np.ndarray
"""Location of a photo, or its pixels (uint8 HW3 RGB) if it was drawn on the fly."""


class Move(NamedTuple):
    """The target of a move, with its ground truth.

    to: (x, y), as ``Query.to``. picture: the photo after the move. mask_rle: the whole object at its target.
    """

    to: tuple[int, int]
    picture: Picture
    mask_rle: Rle


class Region(NamedTuple):
    """A region of a picture with its own text prompt.

    source: the text before the edit; None: the region is added. target: the text after it; None: the region is removed.
    box: x0, y0, x1, y1 as fractions of the picture's width and height; None: the whole picture, i.e. the background.
    keywords: the words of the text that name the object, for guidance; if empty, they are selected automatically.
    feather: fraction of half the shorter side over which the region's weight rises from its border.
    """

    source: str | None
    target: str | None
    box: tuple[float, float, float, float] | None = None
    keywords: tuple[str, ...] = ()
    feather: float = 0.2

    @property
    def kind(self) -> str:
        """``added``, ``removed``, ``changed`` or ``kept``; ``background`` for a kept region without a box."""
        if self.source is None:
            return "added"
        if self.target is None:
            return "removed"
        if self.source != self.target:
            return "changed"
        return "background" if self.box is None else "kept"


class EditRequest(NamedTuple):
    """A requested edit of a picture.

    regions: with their texts before and after. source, target: texts of the whole picture before and after.
    """

    regions: tuple[Region, ...]
    source: str
    target: str


class Edit(NamedTuple):
    """A requested edit, with its ground truth.

    request: the edit. picture: the photo after the edit. kept_rle: the pixels of the record's object that are visible
    both before and after the edit and must not change.
    """

    request: EditRequest
    picture: Picture
    kept_rle: Rle


@dataclass(eq=False)
class AmodalRecord:
    """One annotated object. Masks stay run-length encoded, and the photo stays a path, until they are accessed.

    Attributes:
        dataset, split, image_id, object_id: unique in combination.
        image: the photo.
        modal_rle: the visible pixels, as given to a model.
        amodal_rle: the whole object as annotated; None where only modal masks exist.
        modal_source: origin of ``modal_rle``: ``gt`` (annotated), or the name of the predictor.
        modal_score: the predictor's score, if it gives one.
        gt_modal_rle: the visible pixels as annotated if ``modal_rle`` is predicted (or if a tolerance treats the
            annotation as too thin), else None.
        order: depth rank in its image, 1 = nearest, if known.
        raw_rate: the occlusion rate stored in the file, if any; ``occlusion_rate`` is always recomputed.
        occluder_rle: the occluder's mask, if known.
        unknown_rle: where it is unknown whether the object continues (training ignores these pixels); None: nowhere.
        whole_rgb: picture of the whole object alone, if known: pixels (zero outside the amodal mask), or a file.
        move: a requested move with its ground truth, or None.
        edit: a requested edit with its ground truth, or None.
        flags: any of ``empty_modal``, ``empty_amodal``, ``fully_visible``, ``touches_border``,
            ``modal_outside_amodal``, ``crowd``, ``size_mismatch``, ``upright`` (the photo is to be rotated according to
            its EXIF data).
        group: the groups the object belongs to: ``annotator``; ``video``, ``frame``, ``track``; ``cluster``, ``rank``.
        extra: further fields of the file. Stored quantities that are recomputed and only compared: ``area``, ``bbox``
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
    move: Move | None = None
    edit: Edit | None = None
    flags: frozenset[str] = frozenset()
    group: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """``dataset/split/image/object``: identifies the object in rows, messages and random seeds."""
        return f"{self.dataset}/{self.split}/{self.image_id}/{self.object_id}"

    @property
    def height(self) -> int:
        return int(self.modal_rle["size"][0])

    @property
    def width(self) -> int:
        return int(self.modal_rle["size"][1])

    @property
    def modal(self) -> np.ndarray:
        """bool (H, W), as given to a model."""
        return masks.decode(self.modal_rle)

    @property
    def gt_modal(self) -> np.ndarray:
        """bool (H, W), as annotated. Equal to ``modal`` unless the latter is predicted."""
        return masks.decode(self.modal_rle if self.gt_modal_rle is None else self.gt_modal_rle)

    @property
    def amodal(self) -> np.ndarray:
        """bool (H, W), as annotated. Raises UserError if the data set has modal masks only."""
        if self.amodal_rle is None:
            raise UserError(f"{self.key} has no amodal mask: this data set annotates visible pixels only")
        return masks.decode(self.amodal_rle)

    @property
    def occluder(self) -> np.ndarray | None:
        """bool (H, W): the occluder's mask, or None if unknown."""
        return None if self.occluder_rle is None else masks.decode(self.occluder_rle)

    @property
    def unknown(self) -> np.ndarray | None:
        """bool (H, W): where it is unknown whether the object continues; None: nowhere."""
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
    """One object cropped to its window for training: uint8 arrays, normalised later on the device.

    image: uint8 (S, S, 3) RGB. masks: uint8 (4, S, S) in {0, 1}: modal, amodal, unknown, occluder (the known occluder;
    0 also where it is unknown). key: the record's.
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
    """A model's input: the object to complete in a photo, optionally with a move of it or an edit of the photo.

    image: uint8 (H, W, 3) RGB. modal: bool (H, W), not empty. seed: of all random numbers used for this object,
    non-negative. occluder: bool (H, W), the occluder's mask, for methods that use it. category: the object's class
    name, for methods that use it. to: (x, y), the pixel at which the centre of the modal box lies after the move; None:
    no move. edit: the requested edit, for methods that edit; None: no edit.
    """

    image: np.ndarray
    modal: np.ndarray
    seed: int = 0
    occluder: np.ndarray | None = None
    category: str | None = None
    to: tuple[int, int] | None = None
    edit: EditRequest | None = None
