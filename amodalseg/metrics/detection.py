"""Average precision and recall of detectors that predict amodal masks.

The procedure is COCO's. In each image detections are matched greedily, highest score first: each takes the unmatched
ground truth of highest IoU that meets the IoU threshold. Ground truths may be *ignored*: they are matched only if no
other qualifies, and detections matched to them count neither as true nor as false positives. Precision at 101 recalls
and the maximum recall are averaged over the IoU thresholds .50, .55, ..., .95 and, if there are categories, over those
with ground truths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.masks import Rle

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AMODAL_MAX_DETECTIONS = (1, 10, 100, 1000)
CLS_MAX_DETECTIONS = (1, 10, 100)
RANGES = {"": (0.0, 1.0), "none_": (0.0, 1e-5), "partial_": (1e-5, 0.25), "heavy_": (0.25, 1.0)}
KINDS = {"": None, "things_": False, "stuff_": True}
VISIBLE = {"occluded": 0.85, "occluded_25": 0.75, "occluded_40": 0.6}
"""Maximum visible share of an object, by the name after ``AP_``."""
Figures = dict[str, float | None]


class Truth(NamedTuple):
    """An annotated object.

    image: name of its image. rle: amodal mask. category: name, or any text if there are none. rate: occlusion rate in
    [0, 1]; published tables use the one stored in the file. is_stuff: a region like wall or sky. is_crowd: a group
    that represents any number of objects.
    """

    image: str
    rle: Rle
    category: str
    rate: float
    is_stuff: bool
    is_crowd: bool = False


class Detection(NamedTuple):
    """A detected object.

    image, rle, category: as in ``Truth``. score: any number, higher is more confident. rate: the occlusion rate that
    the detector itself predicts, or None.
    """

    image: str
    rle: Rle
    score: float
    category: str
    rate: float | None = None


def amodal_ap(truths: Sequence[Truth], detections: Sequence[Detection]) -> Figures:
    """AP and AR without categories, as the amodal API computes them.

    Its quirks that are kept: ground truths of the wrong kind (things or stuff) or occlusion range are ignored, but
    unmatched detections are false positives in *every* range; the ranges none [0, 1e-5], partial [1e-5, .25] and heavy
    [.25, 1] include both limits. Not kept: its option to score visible masks, which is read as true but still scores
    amodal ones; and its crash on images without any detection or any ground truth.

    Args:
        truths: of one annotator per image; the API takes the first.
        detections: their categories are ignored.

    Returns:
        ``AP``, ``AP50``, ``AP75`` and ``AR1``, ``AR10``, ``AR100``, ``AR1000`` (maximum detections per image; AP:
        1000), prefixed with ``things_`` or ``stuff_`` and ``none_``, ``partial_`` or ``heavy_`` where only those ground
        truths count. Fractions in [0, 1], None where no ground truth counts.

    Raises:
        UserError: masks of an image differ in size.
    """
    images = _images(truths, detections, AMODAL_MAX_DETECTIONS[-1], by_category=False)[""]
    figures: Figures = {}
    known: list[dict[bytes, _Matched]] = [{} for _ in images]  # kinds and ranges often ignore the same ground truths
    progress = tqdm(total=len(KINDS) * len(RANGES), desc="amodal_ap", disable=len(images) < 500)
    for kind, stuff in KINDS.items():
        for name, (low, high) in RANGES.items():
            found = []
            for image, done in zip(images, known, strict=True):
                counting = [stuff in (None, bool(t.is_stuff)) and low <= t.rate <= high for t in image.truths]
                key = bytes(counting)
                if key not in done:
                    done[key] = _match(image, ~np.array(counting, bool))
                found.append(done[key])
            figures |= _figures(kind + name, [found], AMODAL_MAX_DETECTIONS)
            progress.update()
    progress.close()
    return figures


def cls_ap(truths: Sequence[Truth], detections: Sequence[Detection]) -> Figures:
    """COCO's AP and AR with categories, and the AP of occluded objects.

    ``AP_occluded``, ``AP_occluded_25`` and ``AP_occluded_40`` replace COCO's area by the visible share: ground truths
    with more than 85, 75 or 60 % visible are ignored. So are unmatched detections whose own predicted visible share is
    higher than that; without a ``rate`` they are false positives in every range.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``AR1``, ``AR10``, ``AR100`` (maximum detections per image and category; AP: 100)
        and those three; fractions in [0, 1], None where no ground truth counts.

    Raises:
        UserError: masks of an image differ in size.
    """
    categories = _images(truths, detections, CLS_MAX_DETECTIONS[-1], by_category=True)
    figures: Figures = {}
    for name, visible in {"": 1.0, **VISIBLE}.items():
        found: list[list[_Matched]] = []
        for images in tqdm(categories.values(), desc=f"cls_ap {name}".strip(), disable=len(truths) < 5000):
            found.append([])
            for image in images:
                ignored = np.array([1 - truth.rate > visible for truth in image.truths], bool)
                clear = np.array([d.rate is not None and 1 - d.rate > visible for d in image.detections], bool)
                found[-1].append(_match(image, ignored, clear))
        part = _figures("", found, CLS_MAX_DETECTIONS)
        figures |= {f"AP_{name}": part["AP"]} if name else part
    return figures


@dataclass(frozen=True)
class DetectionProtocol:
    """A named rule: what it computes, what it measures in plain words, and who publishes such numbers."""

    compute: Callable[[Sequence[Truth], Sequence[Detection]], Figures]
    explanation: str
    source: str


DETECTION: dict[str, DetectionProtocol] = {
    "amodal_ap": DetectionProtocol(
        amodal_ap,
        "Average precision and recall of whole masks without regard to categories, over IoU thresholds from 50 to "
        "95 %. “things” and “stuff”, and the occlusion ranges “none”, “partial” (up to 25 %) and “heavy”, ignore all "
        "other objects. Its quirk: detections that match nothing are wrong in every range.",
        "the amodal API (COCOA, BSDS-A)",
    ),
    "cls_ap": DetectionProtocol(
        cls_ap,
        "COCO’s average precision and recall of whole masks: a detection must name the category. “AP_occluded” ignores "
        "objects that are hidden by less than 15 % (25 and 40 % in the others).",
        "VRSP, AISFormer (COCOA-cls, D2SA, KINS)",
    ),
}


class _Image(NamedTuple):
    truths: list[Truth]
    detections: list[Detection]  # highest score first
    ious: np.ndarray  # float64 (detections, truths)


class _Matched(NamedTuple):
    scores: np.ndarray  # float64 (D,), highest first
    right: np.ndarray  # bool (thresholds, D)
    ignored: np.ndarray  # bool (thresholds, D)
    num_truths: int  # that are not ignored


def _images(
    truths: Sequence[Truth], detections: Sequence[Detection], limit: int, *, by_category: bool
) -> dict[str, list[_Image]]:
    """Images in the order of their names, by category; categories without ground truths are left out."""
    places: dict[tuple[str, str], tuple[list[Truth], list[Detection]]] = defaultdict(lambda: ([], []))
    for truth in truths:
        places[truth.category if by_category else "", truth.image][0].append(truth)
    for detection in detections:
        places[detection.category if by_category else "", detection.image][1].append(detection)
    known = sorted({truth.category for truth in truths}) if by_category else [""]
    found: dict[str, list[_Image]] = {category: [] for category in known}
    for (category, name), (there, guesses) in sorted(places.items(), key=lambda item: item[0]):
        if category in found:
            best = sorted(guesses, key=lambda detection: -detection.score)[:limit]
            crowd = [truth.is_crowd for truth in there]
            try:
                ious = masks.ious([guess.rle for guess in best], [truth.rle for truth in there], crowd)
            except ValueError as error:
                raise UserError(f"image {name}: {error}; give all its masks in the photo's size") from error
            found[category].append(_Image(there, best, ious))
    return found


def _match(image: _Image, ignored: np.ndarray, clear: np.ndarray | None = None) -> _Matched:
    """Match the detections of an image.

    Args:
        image: with D detections and G ground truths.
        ignored: bool (G,), ground truths that do not count; crowds never do.
        clear: bool (D,), detections that do not count if unmatched.
    """
    crowd = np.array([truth.is_crowd for truth in image.truths], bool)
    ignored = ignored | crowd
    shape = len(THRESHOLDS), len(image.detections)
    right, left_out = np.zeros(shape, bool), np.zeros(shape, bool)
    if clear is not None:
        left_out |= clear
    free = np.ones((len(THRESHOLDS), len(image.truths)), bool)
    lines = np.arange(len(THRESHOLDS))
    # no match is possible below the lowest threshold, and most detections stay below it
    for number in np.flatnonzero((image.ious >= THRESHOLDS[0]).any(axis=1)):
        iou = image.ious[number]
        fits = (free | crowd) & (iou >= THRESHOLDS[:, None])
        counting = fits & ~ignored
        some = counting.any(axis=1)
        fits = np.where(some[:, None], counting, fits)
        # of equal IoUs the last one is taken, as in COCO's loop
        chosen = len(iou) - 1 - np.argmax(np.where(fits, iou, -1.0)[:, ::-1], axis=1)
        hit = fits.any(axis=1)
        right[hit & some, number] = True
        left_out[hit, number] = ~some[hit]
        free[lines[hit], chosen[hit]] = False
    scores = np.array([detection.score for detection in image.detections], np.float64)
    return _Matched(scores, right, left_out, int((~ignored).sum()))


def _figures(prefix: str, categories: Sequence[Sequence[_Matched]], limits: Sequence[int]) -> Figures:
    precision, recall = [], []  # per category: (thresholds, recalls) and (limits, thresholds)
    for images in categories:
        number = sum(image.num_truths for image in images)
        if number:
            curves = [_curve(images, number, limit) for limit in limits]
            precision.append(curves[-1][0])
            recall.append([reached for _, reached in curves])
    names = [*("AP", "AP50", "AP75"), *(f"AR{limit}" for limit in limits)]
    if not precision:
        return {prefix + name: None for name in names}
    of_thresholds = np.mean(precision, axis=(0, 2))
    values = [of_thresholds.mean(), of_thresholds[0], of_thresholds[5], *np.mean(recall, axis=(0, 2))]
    return {prefix + name: float(value) for name, value in zip(names, values, strict=True)}


def _curve(images: Sequence[_Matched], number: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision at the 101 recalls, float64 (thresholds, 101), and the recall reached, float64 (thresholds,)."""
    order = np.argsort(-np.concatenate([image.scores[:limit] for image in images]), kind="stable")
    right = np.concatenate([image.right[:, :limit] for image in images], axis=1)[:, order]
    left_out = np.concatenate([image.ignored[:, :limit] for image in images], axis=1)[:, order]
    hits, misses = np.cumsum(right, axis=1), np.cumsum(~right & ~left_out, axis=1)
    if not len(order):
        return np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
    recall = hits / number
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best precision at any higher recall
    at = np.array([np.searchsorted(line, RECALLS, side="left") for line in recall])
    padded = np.concatenate([precision, np.zeros((len(THRESHOLDS), 1))], axis=1)
    return np.take_along_axis(padded, at, axis=1), recall[:, -1]
