"""Whole objects on varying backgrounds, with holes to inpaint: training data of the inpainting prior.

Only complete objects are ever shown, so a model that inpaints these pictures learns to generate whole objects. Photos
are decoded, cropped and downscaled once; drawing a 64 px picture then takes well under a millisecond.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import WholeObjectsData
from amodalseg.data.draw.backdrops import PAINTED
from amodalseg.data.draw.holes import half_hole, random_hole
from amodalseg.data.draw.occlude import why_not_whole
from amodalseg.data.fingerprint import fingerprint
from amodalseg.data.images import resize
from amodalseg.data.record_pictures import photo_of
from amodalseg.data.source import RecordList
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

AROUND = 3.0  # side of a stored crop, in longer sides of the object's box
FRAME = (1.25, 2.5)  # side of a drawn picture, likewise
TURN, STRETCH = 12.0, 1.2  # maximum rotation in degrees, and maximum factor of horizontal stretching
EDGE = 1.5  # pixels of a drawn picture between the object and its border
MOST_BYTES = 16 * 2**30
KINDS = ("own", "other", "histogram", "grey", "white", "flat")
SHARES = np.cumsum([0.18, 0.03, 0.15, 0.5, 0.06, 0.08])
"""Backgrounds and how often each is sampled."""


class PriorSample(NamedTuple):
    """One training picture, uint8.

    picture: (S, S, 3) RGB, without anything in front of the object. hole: (S, S) in {0, 1}. mask: (S, S) in {0, 1}, the
    object. key: the record's, with background and kind of hole. empty: (S, S, 3), the background alone where it is
    known everywhere, else the picture.
    """

    picture: np.ndarray
    hole: np.ndarray
    mask: np.ndarray
    key: str
    empty: np.ndarray


class PriorBatch(NamedTuple):
    """A batch of samples: uint8 (B, 3, S, S), twice uint8 (B, 1, S, S) in {0, 1}, and B strings."""

    picture: Any
    hole: Any
    mask: Any
    keys: list[str]


def stack(samples: Sequence[PriorSample]) -> PriorBatch:
    """Stack samples of one size into a batch."""
    import torch  # only here: loader workers of other data need none

    pictures = torch.from_numpy(np.stack([one.picture for one in samples])).permute(0, 3, 1, 2).contiguous()
    holes = torch.from_numpy(np.stack([one.hole for one in samples]))[:, None]
    objects = torch.from_numpy(np.stack([one.mask for one in samples]))[:, None]
    return PriorBatch(pictures, holes, objects, [one.key for one in samples])


class HeldOut:
    """Validation samples of the prior: for each object one training picture, and the object half hidden on grey."""

    def __init__(self, objects: WholeObjects) -> None:
        self.objects, self.fingerprint = objects, objects.fingerprint

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, place: int) -> tuple[PriorSample, PriorSample]:
        return self.objects[0, place, self.objects.side], self.objects.half_hidden(place)


def whole_records(records: Sequence[AmodalRecord], config: WholeObjectsData) -> list[AmodalRecord]:
    """The fully visible objects.

    Chosen as for ``coco_occlude`` (``data/draw/occlude.py``), and without other annotated objects along more than
    ``max_contact`` of their outline, since those may lie in front.

    Raises:
        UserError: no object is whole; the message counts the reasons.
    """
    neighbours = defaultdict(list)
    for record in records:
        neighbours[record.image_id].append(record)
    dropped: Counter[str] = Counter()
    found = []
    for record in records:
        reason = why_not_whole(record, config, None)
        if not reason and _contact(record, neighbours[record.image_id]) > config.max_contact:
            reason = "touch other objects"
        if reason:
            dropped[reason] += 1
        else:
            found.append(record)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise UserError(
            f"none of the {len(records)} objects of data.annotations is whole: {reasons or 'there is none'}"
        )
    return found


def _contact(record: AmodalRecord, neighbours: Sequence[AmodalRecord]) -> float:
    """Share of the outline, two pixels wide, that other objects cover."""
    others = [other.modal_rle for other in neighbours if other.object_id != record.object_id]
    if not others:
        return 0.0
    modal = record.modal
    outline = cv2.dilate(modal.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~modal
    return float(masks.decode(masks.union(others))[outline].mean()) if outline.any() else 0.0


class WholeObjects:
    """Training pictures; each is a pure function of (seed, epoch, index).

    Keys are (epoch, index, side in pixels), as ``RunSampler`` yields them.

    Args:
        records: whole objects.
        side: of the largest pictures to be drawn, pixels.
        seed: of all random numbers.

    Raises:
        UserError: a photo cannot be read, or the objects do not fit into 16 GB.
    """

    def __init__(self, records: Sequence[AmodalRecord], side: int, seed: int) -> None:
        self.side, self.seed, self.keys = side, seed, [record.key for record in records]
        self.fingerprint = fingerprint(RecordList(records))  # the records themselves are not kept
        kept = int(np.ceil(side * AROUND / FRAME[0] / 16)) * 16  # the closest picture is never enlarged
        if len(records) * kept * kept * 4 > MOST_BYTES:
            most = MOST_BYTES // (kept * kept * 4)
            raise UserError(f"{len(records)} objects do not fit into memory; give num_objects={most} or less")
        # one block, so that loader workers share it
        self.kept = np.empty((len(records), kept, kept, 4), np.uint8)
        self.boxes = np.empty((len(records), 4), np.float32)  # x0, y0, x1, y1 of the object in its crop, pixels
        self.photos = np.empty((len(records), 4), np.int32)  # likewise, of the photo, which may be narrower
        for place, record in enumerate(tqdm(records, desc="cutting objects", disable=len(records) < 5000)):
            self.kept[place], self.boxes[place], self.photos[place] = _cut(record, kept)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, key: tuple[int, int, int]) -> PriorSample:
        epoch, index, side = key
        rng = np.random.default_rng(stable_seed("whole", self.seed, epoch, index))
        kind = KINDS[int(np.searchsorted(SHARES[:-1], rng.random()))]
        if kind == "own" and not self._has_surroundings(index):
            kind = "other"
        picture, alpha = self._framed(rng, index, side, within_photo=kind == "own")
        mask = alpha > 127
        if not mask.any():  # thinner than a pixel at this size
            mask = alpha >= max(1, int(alpha.max()))
        if kind != "own":
            behind = self._other_surroundings(rng, side) if kind == "other" else PAINTED[kind](rng, side, picture[mask])
            picture = _blend_over(picture, alpha, behind)
        gain, lift = rng.uniform(0.8, 1.2, 3) ** (0.5, 0.5, 0.5) * rng.uniform(0.85, 1.15), rng.uniform(-15, 15)
        if kind not in ("white", "grey"):  # these keep their plain colour
            picture = (picture * np.float32(gain) + np.float32(lift)).clip(0, 255).astype(np.uint8)
        other = self.kept[int(rng.integers(len(self.kept))), ::2, ::2, 3] >> 7
        shape, hole = random_hole(rng, mask, other)
        return PriorSample(
            picture, hole.astype(np.uint8), mask.astype(np.uint8), f"{self.keys[index]} {kind} {shape}", picture
        )

    def half_hidden(self, place: int) -> PriorSample:
        """A fixed case for validation: an object on even grey, a random half of it in the hole."""
        index = place % len(self)
        rng = np.random.default_rng(stable_seed("half", self.seed, place))
        picture, alpha = self._framed(rng, index, self.side, frame=1.6)
        mask = alpha > 127
        grey = np.full_like(picture, 128)
        hole = half_hole(rng, mask)
        return PriorSample(
            _blend_over(picture, alpha, grey),
            hole.astype(np.uint8),
            mask.astype(np.uint8),
            f"{self.keys[index]} half",
            grey,
        )

    def _has_surroundings(self, index: int) -> bool:
        """Whether a square around the object, with some margin, fits into its photo."""
        (x0, y0, x1, y1), photo = self.boxes[index], self.photos[index]
        return FRAME[0] * max(x1 - x0, y1 - y0) <= min(photo[2] - photo[0], photo[3] - photo[1])

    def _framed(
        self, rng: np.random.Generator, index: int, side: int, *, within_photo: bool = False, frame: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Photo and coverage in a random frame around all of an object: uint8 (side, side, 3) and (side, side)."""
        kept, (x0, y0, x1, y1) = self.kept[index], self.boxes[index]
        at_random = frame is None
        turn, stretch = (0.0, 1.0)
        if at_random and not within_photo:  # otherwise rotation would bring in pixels beyond the photo's border
            turn, stretch = np.deg2rad(rng.uniform(-TURN, TURN)), STRETCH ** rng.uniform(-1, 1)
        around = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = np.diag([np.sqrt(stretch), 1 / np.sqrt(stretch)]) @ around  # from the stored crop to the rotated one
        size = np.abs(matrix) @ (x1 - x0, y1 - y0)
        length = max(size) * (rng.uniform(*FRAME) if at_random else frame)
        if within_photo:
            limits = self.photos[index]
            length = min(length, *(limits[2:] - limits[:2]))
        room = np.maximum(0, length - size - 2 * EDGE * length / side)
        centre = matrix @ ((x0 + x1) / 2, (y0 + y1) / 2) + (rng.uniform(0, 1, 2) - 0.5) * room * at_random
        if within_photo:
            centre = np.clip(centre, limits[:2] + length / 2, limits[2:] - length / 2)
        fine = max(2, int(np.ceil(length / side))) * side  # drawn at this size, then averaged
        scale = fine / length
        # coordinates here refer to pixel edges, OpenCV's to pixel centres
        move = fine / 2 - scale * centre + scale * matrix @ (0.5, 0.5) - 0.5
        # pixels beyond the stored crop appear only where the background is replaced
        wide = cv2.warpAffine(kept, np.hstack([scale * matrix, move[:, None]]), (fine, fine), flags=cv2.INTER_LINEAR)
        small = _shrunk(wide, side)
        if rng.random() < 0.5:
            small = small[:, ::-1]
        return np.ascontiguousarray(small[..., :3]), np.ascontiguousarray(small[..., 3])

    def _other_surroundings(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A part of another object's surroundings, uint8 (side, side, 3)."""
        index = int(rng.integers(len(self.kept)))
        kept, (x0, y0, x1, y1) = self.kept[index], self.photos[index]
        length = int(rng.uniform(0.4, 0.7) * min(x1 - x0, y1 - y0))
        # from a corner: the other object is in the middle
        left, top = (x0, x1 - length)[rng.integers(2)], (y0, y1 - length)[rng.integers(2)]
        return cv2.resize(
            kept[top : top + length, left : left + length, :3], (side, side), interpolation=cv2.INTER_AREA
        )


def _shrunk(view: np.ndarray, side: int) -> np.ndarray:
    """uint8 (h, h, 4) -> uint8 (side, side, 4), averaging pixel areas."""
    return cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA if side < len(view) else cv2.INTER_LINEAR)


def _blend_over(picture: np.ndarray, alpha: np.ndarray, behind: np.ndarray) -> np.ndarray:
    cover = alpha[..., None].astype(np.float32) * np.float32(1 / 255)
    return (behind + cover * (picture.astype(np.float32) - behind) + np.float32(0.5)).astype(np.uint8)


def _cut(record: AmodalRecord, kept: int) -> tuple[np.ndarray, tuple[float, ...], tuple[int, ...]]:
    """An object with its surroundings, uint8 (kept, kept, 4): colour and coverage; its box there, and the photo's.

    The photo is mirrored beyond its border. Coverage ends half a pixel inside the annotated outline, so that no seam of
    the old background is carried over to a new one.
    """
    photo = photo_of(record)
    modal = record.modal
    if photo.shape[:2] != modal.shape:
        raise UserError(f"{record.image} and the mask of {record.key} differ in size; correct one of them")
    box = masks.box_xyxy(modal)
    assert box is not None  # whole objects have pixels
    length = int(np.ceil(AROUND * max(box[2] - box[0], box[3] - box[1])))
    left, top = (box[0] + box[2] - length) // 2, (box[1] + box[3] - length) // 2
    above, below = max(0, -top), max(0, top + length - len(photo))
    before, after = max(0, -left), max(0, left + length - photo.shape[1])
    y, x = max(0, top), max(0, left)
    rgb = photo[y : top + length, x : left + length]
    rgb = cv2.copyMakeBorder(rgb, above, below, before, after, cv2.BORDER_REFLECT)
    own = modal[y : top + length, x : left + length].astype(np.uint8) * 255
    inside: np.ndarray = cv2.copyMakeBorder(own, above, below, before, after, cv2.BORDER_CONSTANT, value=0)
    seam = cv2.erode(inside, np.ones((2, 2), np.uint8))
    alpha = resize(seam if (seam > 0).sum() > 0.5 * (inside > 0).sum() else inside, kept, kept)
    scale = kept / length
    corners = box[0] - left, box[1] - top, box[2] - left, box[3] - top
    photo_box = (
        int(np.ceil(scale * before)), int(np.ceil(scale * above)),
        int(scale * (length - after)), int(scale * (length - below)),
    )  # fmt: skip
    return np.dstack([resize(rgb, kept, kept), alpha]), tuple(scale * corner for corner in corners), photo_box
