"""The vocabulary as code: what travels between the parts.

A reader yields ``AmodalRecord``; training cuts it to a ``Sample`` and stacks those to a ``Batch``; evaluation turns it
into a ``Query``, which a model answers with a ``Prediction``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.masks import Rle


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


@dataclass
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
        return self.amodal & ~self.gt_modal

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

    image: Any
    masks: Any
    keys: list[str]


@dataclass
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


Made = np.ndarray | Callable[[], np.ndarray]
"""An array, or a function that makes it when it is first asked for."""


class Canvas(NamedTuple):
    """An answer that goes beyond the photo, which lies somewhere in it.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3) RGB, or None. top, left: row and column of the
    canvas's first pixel, counted in the photo: 0, or negative where the canvas begins before it.
    """

    mask: np.ndarray
    picture: np.ndarray | None
    top: int
    left: int


class Prediction:
    """A model's answer for one object, in the full image.

    Arrays that a model hands over as functions are made when they are first asked for: an answer of a large photo is
    small until then.

    Attributes:
        amodal: bool (H, W), the model's final mask.
        modal: bool (H, W), the mask it was given.
        raw: bool (H, W), the mask before the modal mask was united into it (equal to ``amodal`` if that is off).
        probability: float32 (H, W) in [0, 1], or None for models that have none; zero outside the window. The mean over
            the samples of a model that was asked for several.
        samples: bool (K, H, W), the final masks of the single draws of a model that was asked for several, else None.
        seconds: wall time of this object's share of the work.
        image: uint8 (H, W, 3), the photo with the completion pasted in where ``amodal`` is and ``modal`` is not; None
            for models that draw no picture.
        evaluations: of a network, for this object; 0 for models without one.
        canvas: the answer with what lies outside the photo, of models that look there; else None.
    """

    def __init__(
        self,
        amodal: Made,
        modal: np.ndarray,
        raw: Made,
        probability: Made | None = None,
        samples: Made | None = None,
        seconds: float = 0.0,
        image: Made | None = None,
        evaluations: int = 0,
        canvas: Canvas | None = None,
    ) -> None:
        self._made = {
            "amodal": amodal, "raw": raw, "probability": probability, "samples": samples, "image": image,
        }  # fmt: skip
        self.modal, self.seconds, self.evaluations, self.canvas = modal, seconds, evaluations, canvas

    def _make(self, name: str) -> np.ndarray | None:
        made = self._made[name]
        return made() if callable(made) else made

    @cached_property
    def amodal(self) -> np.ndarray:
        """The model's final mask."""
        return cast(np.ndarray, self._make("amodal"))

    @cached_property
    def raw(self) -> np.ndarray:
        """The mask before the modal mask was united into it."""
        return cast(np.ndarray, self._make("raw"))

    @cached_property
    def probability(self) -> np.ndarray | None:
        """In [0, 1]."""
        return self._make("probability")

    @cached_property
    def samples(self) -> np.ndarray | None:
        """The masks of the single draws."""
        return self._make("samples")

    @cached_property
    def image(self) -> np.ndarray | None:
        """The photo with the completion pasted in."""
        return self._make("image")

    @property
    def occluded(self) -> np.ndarray:
        """bool, shape of ``amodal``: predicted and not visible."""
        return self.amodal & ~self.modal


class PredictionStack(Prediction):
    """The answers for a stack of N objects of one photo.

    ``modal``, ``amodal``, ``raw``, ``occluded`` and ``probability`` are (N, H, W), ``samples`` is (N, K, H, W),
    ``seconds`` the time and ``evaluations`` those of all; ``image`` and ``canvas`` only the members have. ``stack[i]``
    is the ``Prediction`` of one object, made anew each time: going through a large photo object by object holds one
    object's full-size arrays at a time, where ``stack.amodal`` holds all.
    """

    def __init__(self, members: Sequence[Prediction], modal: np.ndarray, draws: int | None = None) -> None:
        """Collect answers.

        Args:
            members: of the objects, in the order of ``modal``.
            modal: bool (N, H, W).
            draws: samples of each object, or None for a model that has no probability: the shapes of an empty stack.
        """
        self._members = list(members)
        shape = modal.shape[1:]
        super().__init__(
            partial(self._all, "amodal", shape, bool),
            modal,
            partial(self._all, "raw", shape, bool),
            None if draws is None else partial(self._all, "probability", shape, np.float32),
            partial(self._all, "samples", (draws, *shape), bool) if draws is not None and draws > 1 else None,
            sum(member.seconds for member in members),
            evaluations=sum(member.evaluations for member in members),
        )

    def _all(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        arrays: np.ndarray = np.zeros((len(self), *shape), kind)
        for array, member in zip(arrays, self, strict=True):
            array[:] = getattr(member, name)
        return arrays

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> Prediction:
        return copy(self._members[index])  # what the copy makes goes when the copy goes

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))
