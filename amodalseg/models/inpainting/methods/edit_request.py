"""Requests for edits: the text of the whole picture, and validation with one line per mistake before generation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.steps.keywords import unread_words
from amodalseg.models.inpainting.steps.region_weights import alpha, on_grid
from amodalseg.types import EditRequest, Region

EDITED = ("added", "removed", "changed")
"""Kinds of regions that an edit changes."""


def as_regions(given: Iterable[Region]) -> tuple[Region, ...]:
    """The regions of an edit. Raises UserError: they, their texts, boxes or keywords are of other types."""
    regions = tuple(given) if isinstance(given, Iterable) else (given,)
    for region in regions:
        if isinstance(given, Region) or not isinstance(region, Region):
            raise UserError(f"regions must be a list of amodalseg.Region, not {given!r:.80}")
        if not all(text is None or isinstance(text, str) for text in (region.source, region.target)):
            raise UserError(f"the texts of a region must be str or None, not {(region.source, region.target)!r:.80}")
        if isinstance(region.keywords, str):
            raise UserError(f"keywords must be a tuple of words: give ({region.keywords!r},)")
        if not (region.box is None or _are_numbers(region.box)):
            raise UserError(
                f"a box is four numbers, x0, y0, x1 and y1 as fractions of the picture, not {region.box!r:.80}"
            )
    return regions


def _are_numbers(box: Any) -> bool:
    try:
        return np.asarray(box).dtype.kind in "iuf" and np.shape(box) == (4,)
    except ValueError:  # nested lists of unequal length
        return False


def request_of(regions: Sequence[Region], source: str | None = None, target: str | None = None) -> EditRequest:
    """An edit request; the texts of the whole picture default to those of its regions, joined."""
    before, after = joined([region.source for region in regions]), joined([region.target for region in regions])
    return EditRequest(tuple(regions), source or before, target or after)


def joined(texts: Sequence[str | None]) -> str:
    """``a red star and a blue fish``: distinct texts in order; regions without a text are left out."""
    return " and ".join(dict.fromkeys(text for text in texts if text))


def check_request(request: EditRequest, backend: InpaintingBackend, height: int, width: int) -> None:
    """Refuse an edit that a model cannot perform.

    Args:
        request: the edit.
        backend: the model.
        height, width: of the generated picture, pixels.

    Raises:
        UserError: with one line that says what to change.
    """
    if not backend.abilities.text:
        raise UserError(
            f"{backend.name} reads no text, so it cannot edit by text: use Stable Diffusion "
            "(model.backend.name=sd15_text) or word_prior"
        )
    regions = request.regions
    if not regions:
        raise UserError("there is no region to edit: give regions, each with a text before and after")
    if all(region.kind not in EDITED for region in regions) and request.source == request.target:
        raise UserError("nothing would change: every region has the same text before and after")
    if not (request.source and request.target):
        when = "before" if not request.source else "after"
        raise UserError(f"no text describes the picture {when} the edit: add a background region without a box")
    _check_boxes(regions, backend, height, width)
    for region in regions:
        _check_words(region, backend)
    for when, text in (("before", request.source), ("after", request.target)):
        _check_text(text, backend, f"the text of the whole picture {when} the edit", f"; give a shorter one ({when})")


def check_side(backend: InpaintingBackend, height: int, width: int, side: int) -> None:
    """Refuse a picture in which the network attends to words only on grids of more than ``side`` positions on a side.

    Raises:
        UserError: with the largest side that it can have.
    """
    if not backend.abilities.attention:
        return  # refused as soon as it is evaluated
    levels = len(backend.network.config.block_out_channels)  # each half as fine as the one before; the last attends
    most = side * 2 ** (levels - 1) * backend.abilities.factor
    if max(height, width) > most:
        raise UserError(
            f"a picture of {width}x{height} (width x height) is too large for {backend.name}, whose keywords are found "
            f"on a grid of at most {side} x {side}: give at most {most} px on a side (size; for a photo "
            "model.window.size)"
        )


def _check_boxes(regions: Sequence[Region], backend: InpaintingBackend, height: int, width: int) -> None:
    factor = backend.abilities.factor
    rows, columns, step = height // factor, width // factor, max(1, backend.abilities.multiple // factor)
    for region in regions:
        if region.box is not None and len(region.box) != 4:
            raise UserError(f"a box is four numbers, x0, y0, x1 and y1 as fractions of the picture, not {region.box}")
        alpha(region, on_grid(region, rows, columns, step), rows, columns)
    edited = [region for region in regions if region.kind in EDITED and region.box is not None]
    for one, other in combinations(edited, 2):
        assert one.box and other.box
        (x0, y0, x1, y1), (left, top, right, bottom) = one.box, other.box
        if max(x0, left) < min(x1, right) and max(y0, top) < min(y1, bottom):
            raise UserError(
                f"the boxes {list(one.box)} and {list(other.box)} overlap and both are edited: separate them, "
                "or make one edit after the other"
            )


def _check_words(region: Region, backend: InpaintingBackend) -> None:
    if not (region.source or region.target):
        raise UserError("a region has no text, neither before nor after the edit: give it one, or leave the region out")
    if "" in (region.source, region.target):
        raise UserError("the text of a region is empty: for no text before or after, give null (None)")
    for text in (region.source, region.target):
        if text is not None:
            _check_text(text, backend, "the text of a region", "; give a shorter one")
    own = {word for text in (region.source, region.target) if text for word in text.lower().replace(",", " ").split()}
    for keyword in region.keywords:
        missing = [word for word in keyword.lower().split() if word not in own]
        if missing:
            raise UserError(f"the keyword '{missing[0]}' occurs in none of its region's texts: use one of their words")


def _check_text(text: str, backend: InpaintingBackend, what: str, hint: str) -> None:
    unread, unknown = unread_words(backend, text), backend.unknown(text)
    if unread:
        room = len(backend.tokens(text)) - 2
        raise UserError(f"{what} is too long for {backend.name}, which reads {room} tokens: "
                        f"'{' '.join(unread)}' is cut off{hint}")  # fmt: skip
    if unknown:
        raise UserError(
            f"'{unknown[0]}' in '{text}' is unknown to {backend.name}: use words that it was trained on, or another "
            "model (model.backend.name=sd15_text)"
        )


def layout(request: EditRequest) -> tuple[object, ...]:
    """What edits generated in one batch must share: kinds, positions and feathers of the regions."""
    return tuple((region.kind, region.box, region.feather) for region in request.regions)
