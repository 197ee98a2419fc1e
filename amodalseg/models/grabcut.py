"""Rough segmentation from a box or points without weights: GrabCut (Rother, Kolmogorov and Blake 2004)."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.data.images import resize

SIDE = 192
"""Longer side of the segmented picture, pixels; larger ones take longer and gave no better masks."""
MARGIN = 0.2
"""Margin around a box, as a share of its sides, from which the colours of the surroundings are learned."""
CORE, NEAR, RIM = 0.06, 0.2, 0.15
"""Shares of the longer side: within CORE of a point on the object, pixels are marked as object, within NEAR as probable
object (both over sqrt(P) for P points); the picture's border beyond RIM as background. Tuned on training photos."""
PIECE = 0.1
"""Share of the largest piece found in a box; smaller pieces are dropped."""
LITTLE = 0.25
"""Share of a box: a result that fills less is not an object, and the box's centre is then used as a point on it."""
ROUNDS = 3
SURELY_NOT, SURELY, PROBABLY_NOT, PROBABLY = 0, 1, 2, 3
"""Marks of OpenCV's GrabCut; odd ones are the object."""


class GrabCut:
    """Separates object and surroundings by colour, starting from guesses based on box and points."""

    side = 512
    """Longer side to which callers scale pictures."""

    def select(self, picture: np.ndarray, points: np.ndarray, labels: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Find the object.

        Args:
            picture: uint8 (H, W, 3) RGB.
            points: int (P, 2), x and y, pixels; with a box P may be 0.
            labels: int (P,), 1: on the object, 0: on something else. Without a box at least one is 1.
            box: int (4,) x0, y0, x1, y1, ends exclusive: nothing outside of it is the object; or None.

        Returns:
            bool (H, W): with points on the object the connected parts that contain them, else all parts but scraps.
        """
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = (0, 0, width, height) if box is None else _with_margin(box, height, width)
        part = np.ascontiguousarray(picture[y0:y1, x0:x1])
        scale = min(1.0, SIDE / max(part.shape[:2]))
        rows, columns = (max(1, round(length * scale)) for length in part.shape[:2])
        small = resize(part, rows, columns)
        places = ((points - (x0, y0)) * scale).astype(int).clip(0, (columns - 1, rows - 1))
        inside = None
        if box is not None:
            inside = np.zeros((rows, columns), bool)
            left, top, right, bottom = np.rint((box - (x0, y0, x0, y0)) * scale).astype(int)
            inside[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        whole = np.ones((rows, columns), bool) if inside is None else inside
        if whole.all():  # no surroundings from which colours could be learned
            inside = None
        found = np.zeros((rows, columns), bool)
        if inside is not None or labels.any():
            found = _cut(small, _marks(places, labels, inside, rows, columns))
        if not labels.any() and found.sum() < LITTLE * whole.sum():
            places = np.vstack([places, np.argwhere(whole).mean(axis=0).astype(int)[::-1]])
            labels = np.append(labels, 1)
            found = _cut(small, _marks(places, labels, inside, rows, columns))
        mask = np.zeros((height, width), bool)
        pieces = _pieces(found, places[labels == 1]).astype(np.float32)
        mask[y0:y1, x0:x1] = resize(pieces, y1 - y0, x1 - x0) > 0.5
        return mask


def _with_margin(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box.tolist()
    across, down = round((x1 - x0) * MARGIN) + 4, round((y1 - y0) * MARGIN) + 4
    return max(0, x0 - across), max(0, y0 - down), min(width, x1 + across), min(height, y1 + down)


def _marks(places: np.ndarray, labels: np.ndarray, inside: np.ndarray | None, rows: int, columns: int) -> np.ndarray:
    """Initial marks from box and points alone, uint8 (rows, columns)."""
    longer = max(rows, columns)
    own = places[labels == 1]
    reach = 1 / max(1, len(own)) ** 0.5
    near = _distance(own, rows, columns) / longer
    if inside is None:
        marks = np.where(near < NEAR * reach, PROBABLY, PROBABLY_NOT).astype(np.uint8)
        rim = np.ones((rows, columns), bool)
        rim[1:-1, 1:-1] = False
        marks[rim & (near > RIM)] = SURELY_NOT
    else:
        marks = np.where(inside, PROBABLY, SURELY_NOT).astype(np.uint8)
    others = _distance(places[labels == 0], rows, columns) / longer
    marks[(near < CORE * reach) & (near < others) & (marks != SURELY_NOT)] = SURELY
    marks[(others < CORE * reach) & (others <= near)] = SURELY_NOT
    marks[own[:, 1], own[:, 0]] = SURELY
    return marks


def _distance(places: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Distance to the nearest point, float (rows, columns); infinite without points."""
    y, x = np.mgrid[:rows, :columns]
    found = [np.hypot(y - place[1], x - place[0]) for place in places]
    return np.min(found, axis=0) if found else np.full((rows, columns), np.inf)


def _cut(picture: np.ndarray, marks: np.ndarray) -> np.ndarray:
    if (marks % 2 == 1).all() or (marks % 2 == 0).all():  # one of the two has no pixels to learn from
        return marks % 2 == 1
    cv2.setRNGSeed(0)  # for the initial clusters of colours
    marks, models = marks.copy(), [np.zeros((1, 65)) for _ in range(2)]
    cv2.grabCut(picture, marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return marks % 2 == 1


def _pieces(mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.zeros(count, bool)
    kept[1:] = areas >= PIECE * areas.max(initial=0) if not len(places) else False
    kept[numbers[places[:, 1], places[:, 0]]] = True
    kept[0] = False
    return kept[numbers]
