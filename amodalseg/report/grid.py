"""Pictures side by side on white, with titles. All are uint8 (H, W, 3) RGB arrays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

PAPER = (255, 255, 255)
INK = "#303840"
GAP = 6  # pixels between cells
MOST = 7  # pictures per row, so that a page displays them large enough


def grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = ()) -> np.ndarray:
    """Arrange pictures in rows and columns on white.

    Args:
        rows: pictures, uint8 (H, W, 3) of any sizes; smaller ones are centred in cells of the largest size.
        titles: one per column, or none.

    Returns:
        uint8 (H', W', 3).
    """
    cells = [cell for row in rows for cell in row]
    assert cells, "a grid needs pictures"
    height, width = max(cell.shape[0] for cell in cells), max(cell.shape[1] for cell in cells)
    columns = max(len(row) for row in rows)
    sheet_width = GAP + columns * (width + GAP)
    bands = [_titles(titles, width, sheet_width)] if titles else [paper(GAP, sheet_width)]
    for row in rows:
        band = paper(height + GAP, sheet_width)
        for index, cell in enumerate(row):
            y = (height - cell.shape[0]) // 2
            x = GAP + index * (width + GAP) + (width - cell.shape[1]) // 2
            band[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
        bands.append(band)
    return np.concatenate(bands)


def wrapped(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """``grid`` of rows of equal length, broken where they are wider than a page; the parts are stacked."""
    starts = range(0, len(titles), MOST)
    parts = [grid([row[i : i + MOST] for row in rows], titles[i : i + MOST]) for i in starts]
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, [(0, 0), (0, width - p.shape[1]), (0, 0)], constant_values=255) for p in parts])


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) RGB or (H, W, 4) RGBA -> PNG file."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, order), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


def paper(height: int, width: int) -> np.ndarray:
    """White, uint8 (height, width, 3)."""
    return np.full((height, width, 3), PAPER, np.uint8)


def _titles(titles: Sequence[str], cell: int, width: int) -> np.ndarray:
    """A band of centred titles. Names too long for their cell are truncated; paths keep their end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, dots = 26, 100
    size = min(9.0, max(6.5, cell / 18))  # points
    letters = max(4, int(cell / (size * dots / 72 * 0.62)))  # 0.62: average width of a letter in this font
    figure = Figure(figsize=(width / dots, height / dots), dpi=dots, facecolor="white")
    for index, title in enumerate(titles):
        text = title
        if len(title) > letters:
            text = "…" + title[1 - letters :] if "/" in title else title[: letters - 1] + "…"
        x = (GAP + index * (cell + GAP) + cell / 2) / width
        figure.text(x, 0.42, text, ha="center", va="center", fontsize=size, color=INK, parse_math=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
