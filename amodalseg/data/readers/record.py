"""How every reader makes a record: masks in their encodings -> run lengths, and the flags that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amodalseg import masks
from amodalseg.data.images import image_size
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord, Picture


def read_mask(segmentation: Any, size: Sequence[int], where: str) -> Rle:
    """A mask in any of COCO's encodings.

    Args:
        segmentation: polygon, list of polygons (their union) or run lengths.
        size: [H, W] of polygons; run lengths have their own.
        where: file and object, for the message.

    Raises:
        UserError: it is not a mask.
    """
    try:
        return masks.from_segmentation(segmentation, *size)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"{where} has a mask that cannot be read: {error}") from error


def mask_of_size(segmentation: Any, size: Sequence[int], where: str) -> Rle:
    """As ``read_mask``; run lengths of another size raise UserError too."""
    rle = read_mask(segmentation, size, where)
    if list(rle["size"]) != list(size):
        raise UserError(f"{where} has a mask of {rle['size']} (height, width), other masks of its image are {size}")
    return rle


def stated_sizes(photo: dict[str, Any], path: Path, photos: bool, *, needed: bool = True) -> list[list[int]]:
    """[H, W] of an image according to the file's entry and to the photo, as far as known.

    An unreadable photo is an error (UserError) only if a size is ``needed`` and nothing else gives one; otherwise it is
    reported with all others when the photos are opened.
    """
    sizes: list[Any] = []
    if "height" in photo and "width" in photo:
        sides = [photo["height"], photo["width"]]
        sizes.append([side if isinstance(side, (int, float)) else str(side) for side in sides])  # may be an array
    if photos:
        try:
            sizes.append(list(image_size(path)))
        except UserError:
            if needed and not sizes:
                raise
    return sizes


def image_mask_size(
    segmentations: Sequence[tuple[Any, str]], photo: dict[str, Any], path: Path, photos: bool = True
) -> tuple[list[int], bool]:
    """The common size of all masks of an image.

    Args:
        segmentations: (stored mask, file and object) of the image's objects, in any encodings.
        photo: the file's entry of the image, with ``height`` and ``width`` if it has them.
        path: of the photo.
        photos: off: the photo itself is not opened.

    Returns:
        [H, W] from the first run lengths if there are any, else the entry, else the photo; and whether those differ.

    Raises:
        UserError: the size is unknown.
    """
    sizes = [read_mask(mask, [1, 1], where)["size"] for mask, where in segmentations if isinstance(mask, dict)][:1]
    sizes += stated_sizes(photo, path, photos, needed=not sizes)
    if not sizes:
        raise UserError(f"the size of {path} is unknown: the file has neither run lengths nor height and width")
    return sizes[0], any(size != sizes[0] for size in sizes)


def make_record(
    dataset: str, split: str, image_id: str, object_id: str, image: Picture, modal: Rle, amodal: Rle,
    *, fix_subset: str = "keep", flags: Sequence[str] = (), **rest: Any,
) -> AmodalRecord:  # fmt: skip
    """A record, with the flags that follow from its masks.

    Args:
        dataset, split, image_id, object_id, image, modal, amodal: of the record.
        fix_subset: modal pixels outside the amodal mask: ``keep`` them, or add them to the amodal mask (``union``).
        flags: that the reader sets itself (``size_mismatch``, ``crowd``).
        **rest: other fields of the record.
    """
    both = masks.union([amodal, modal])
    area_both, area_modal, area_amodal = masks.area(both), masks.area(modal), masks.area(amodal)
    conditions = {
        "empty_modal": area_modal == 0,
        "empty_amodal": area_amodal == 0,
        "fully_visible": area_both == area_modal,
        "modal_outside_amodal": area_both > area_amodal,
    }
    return AmodalRecord(
        dataset,
        split,
        image_id,
        object_id,
        image,
        modal,
        both if fix_subset == "union" else amodal,
        flags=frozenset([*flags, *(flag for flag, holds in conditions.items() if holds)]),
        **rest,
    )


def meets_hidden(other: Rle, modal: Rle, both: Rle) -> bool:
    """Whether ``other`` overlaps the occluded region of an object, ``both`` without ``modal``.

    Args:
        other: mask of a possible occluder.
        modal: of the object.
        both: its amodal and modal mask united. All have the same size. Run lengths have no difference operation, so
            areas are compared.
    """
    area, union = masks.area, masks.union
    return area(both) - area(union([both, other])) > area(modal) - area(union([modal, other]))
