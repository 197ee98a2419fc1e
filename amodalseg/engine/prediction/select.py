"""The modal mask of an object selected by points or a box, or of all objects matching a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from amodalseg import masks
from amodalseg.data.images import resize
from amodalseg.errors import UserError
from amodalseg.models import pick_device
from amodalseg.models.base import as_rgb, check_inside
from amodalseg.models.grabcut import GrabCut

if TYPE_CHECKING:
    from amodalseg.models.inpainting.parts.detector import Detector

OFFLINE = "grabcut"
"""The selector that needs no weights."""
DETECTOR = "grounding_dino"
SAME = 0.8
"""IoU at or above which two masks found by text are the same object."""


class Selector(Protocol):
    """Segments objects from points and boxes: ``GrabCut``, or an opened ``SamSegmenter``."""

    side: int

    def select(
        self, picture: np.ndarray, points: np.ndarray, labels: np.ndarray, box: np.ndarray | None
    ) -> np.ndarray: ...


def select(
    image: np.ndarray,
    *,
    points: Sequence[Sequence[float]] | np.ndarray | None = None,
    box: Sequence[float] | np.ndarray | None = None,
    text: str | None = None,
    model: str | Selector = OFFLINE,
    detector: str | Detector = DETECTOR,
    device: str = "auto",
) -> np.ndarray:
    """Find the modal mask of an object by points and a box, or of all objects matching a text.

    Args:
        image: uint8 (H, W, 3) RGB; grey and RGBA are converted, see ``as_rgb``.
        points: (x, y) or (x, y, label) each, in pixels of the image. Label 1 (the default): on the object; 0: beside
            it.
        box: x0, y0, x1, y1 in pixels, ends exclusive, around the visible region; clipped to the image.
        text: what to look for, instead of points and box; separate several things by full stops.
        model: ``grabcut``, which needs no weights, segments by colour alone and is rough; SAM 2 or SAM: ``sam2``,
            ``sam2_tiny``, ``sam``, ``sam_base``, owner/name on the hub, a folder, or one opened by ``open_selector``.
        detector: finds boxes for the text: ``grounding_dino``, ``grounding_dino_base``, owner/name, a folder,
            or an opened one.
        device: the device for SAM and the detector, if they are opened here.

    Returns:
        bool (H, W), not empty; for text (N, H, W), most confident first.

    Raises:
        UserError: no prompt is given, or text together with points or a box; a point lies outside the image or the box,
            or the box is empty; nothing is found; a model is not available.
    """
    image = as_rgb(image)
    height, width = image.shape[:2]
    if text is None:
        places, labels, frame = _checked(points, box, height, width)
        return _selected(open_selector(model, device), image, places, labels, frame)
    if points is not None or box is not None:
        raise UserError("give text, or points and a box, not both")
    words = [word.strip() for word in text.split(".") if word.strip()]
    if not words:
        raise UserError("the text is empty: name what to look for, as in 'a dog'")
    from amodalseg.models.inpainting.parts.detector import open_detector

    selector = open_selector(model, device)
    finder = open_detector(detector, pick_device(device)) if isinstance(detector, str) else detector
    boxes = finder.boxes(image, words)
    found: list[np.ndarray] = []
    for one in boxes:
        try:
            mask = _selected(selector, image, np.zeros((0, 2), int), np.zeros(0, int), one)
        except UserError:  # a box in which nothing stands out
            continue
        if all(_iou(mask, other) < SAME for other in found):
            found.append(mask)
    if not found:
        raise UserError(f"nothing in the photo matches '{text}': try other words, or give points or a box")
    return np.stack(found)


def open_selector(name: str | Selector, device: str = "auto") -> Selector:
    """Open anything that ``select`` accepts as ``model``, for use with many photos. Raises UserError."""
    if not isinstance(name, str):
        return name
    if name == OFFLINE:
        return GrabCut()
    from amodalseg.models.inpainting.parts.segmenter import open_segmenter

    return open_segmenter(name, pick_device(device))


@dataclass(frozen=True)
class Prompt:
    """A prompt for ``select``, with the same arguments."""

    points: Sequence[Sequence[float]] | None = None
    box: Sequence[float] | None = None
    text: str | None = None
    model: str = OFFLINE
    detector: str = DETECTOR
    device: str = "auto"

    def select(self, image: np.ndarray) -> np.ndarray:
        """As the function ``select``."""
        return select(image, **vars(self))


def _checked(points: Any, box: Any, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """int (P, 2) and (P,), and int (4,) or None. Raises UserError."""
    if points is None and box is None:
        raise UserError("say where the object is: give points, a box or text")
    frame = None if box is None else _frame(box, height, width)
    given = [] if points is None else [list(point) for point in _several(points)]
    places, labels = np.zeros((len(given), 2), int), np.ones(len(given), int)
    for number, point in enumerate(given):
        if len(point) not in (2, 3) or not _finite(point) or point[2:] not in ([], [0], [1]):
            raise UserError(f"a point is (x, y), or (x, y, label) with label 1 or 0, not {tuple(point)!r:.60}")
        x, y = point[:2]
        check_inside("point", x, y, height, width)
        places[number], labels[number] = (int(x), int(y)), point[2] if len(point) == 3 else 1
        if labels[number] and frame is not None:
            x0, y0, x1, y1 = frame
            if not (x0 <= x < x1 and y0 <= y < y1):
                raise UserError(f"the point {x:g},{y:g} lies outside the box {x0},{y0},{x1},{y1}")
    if frame is None and not labels.any():
        raise UserError("no point is on the object: give one with label 1, or a box")
    return places, labels, frame


def _several(points: Any) -> Any:
    """Accept a single point as a list of one."""
    try:
        return [points] if len(points) and np.ndim(points[0]) == 0 else points
    except TypeError:
        raise UserError(f"points are a list of (x, y) or (x, y, label), not {points!r:.60}") from None


def _frame(box: Any, height: int, width: int) -> np.ndarray:
    try:
        found = [float(value) for value in box]
    except (TypeError, ValueError):
        found = []
    if len(found) != 4 or not _finite(found):
        raise UserError(f"a box is x0, y0, x1, y1 in pixels, not {box!r:.60}")
    x0, y0 = (max(0, int(np.floor(value))) for value in found[:2])
    x1, y1 = min(width, int(np.ceil(found[2]))), min(height, int(np.ceil(found[3])))
    if found[0] >= found[2] or found[1] >= found[3] or x0 >= x1 or y0 >= y1:
        given = ",".join(f"{value:g}" for value in found)
        raise UserError(
            f"the box {given} is empty in the photo of {width}x{height} (width x height): give x0,y0,x1,y1 with "
            "x0 < x1 and y0 < y1"
        )
    return np.array([x0, y0, x1, y1])


def _finite(values: Sequence[Any]) -> bool:
    try:
        return bool(np.isfinite(np.array(values, float)).all())
    except (TypeError, ValueError):
        return False


def _selected(
    selector: Selector, image: np.ndarray, points: np.ndarray, labels: np.ndarray, box: np.ndarray | None
) -> np.ndarray:
    """The selector's mask in an image of any size, bool (H, W). Raises UserError: nothing is found."""
    height, width = image.shape[:2]
    scale = min(1.0, selector.side / max(height, width))
    rows, columns = (max(1, round(length * scale)) for length in (height, width))
    shrink = np.array([columns / width, rows / height])
    places = ((points + 0.5) * shrink).astype(int)
    frame = None if box is None else _outwards(box, shrink)
    found = selector.select(resize(np.ascontiguousarray(image), rows, columns), places, labels, frame)
    mask = found if scale == 1 else resize(found.astype(np.float32), height, width) > 0.5
    if not mask.any():
        where = "in the box" if box is not None else "at the points"
        raise UserError(f"no object is found {where}: give points on the object too, or another model, such as 'sam2'")
    return mask


def _outwards(box: np.ndarray, shrink: np.ndarray) -> np.ndarray:
    starts, ends = np.floor(box[:2] * shrink), np.ceil(box[2:] * shrink)
    return np.concatenate([starts, ends]).astype(int)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(masks.ious([masks.encode(first)], [masks.encode(second)])[0, 0])
