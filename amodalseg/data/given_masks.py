"""Conversion of other libraries' masks to arrays; types are recognised by their attributes, so nothing is imported."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.data.mask_files import read_mask_bytes
from amodalseg.errors import UserError

PROBABLE = 0.5
"""Probability above which a pixel of a torchvision detector's mask belongs to the object."""


def as_masks(given: Any, height: int, width: int) -> np.ndarray:
    """Masks of one photo as a bool array: (H, W) for forms of one object, (N, H, W) for forms of several.

    Args:
        given: one of

            - an array, which is returned unchanged, or a torch tensor: bool (H, W), (N, H, W) or (N, 1, H, W);
            - a list of such masks;
            - run lengths (a dict with ``counts`` and ``size``) or a list of them; one object's polygons as COCO writes
              them, ``[[x, y, x, y, ...], ...]``;
            - the output of a SAM automatic mask generator: dicts with ``segmentation``; COCO annotations likewise;
            - a detection of ultralytics (``Results``), detectron2 (``Instances``, or its dict), torchvision (a dict
              with ``masks``: probabilities above 0.5), MMDetection (``DetDataSample``), transformers (a dict with
              ``segmentation`` and ``segments_info``) or supervision (``Detections``), alone or as a list of one;
            - a PIL picture, read like a mask file.
        height, width: of the photo, pixels.

    Raises:
        UserError: for anything else (the message says what to give), and for a detection without masks.
    """
    found = _of_object(given, height, width)
    if found is not None:
        return found
    if isinstance(given, dict) and "instances" in given:  # detectron2's DefaultPredictor
        return as_masks(given["instances"], height, width)
    if isinstance(given, dict) and "masks" in given:
        return _of_torchvision(as_masks(given["masks"], height, width))
    if isinstance(given, dict) and {"segmentation", "segments_info"} <= given.keys():
        return _of_transformers(given["segmentation"], given["segments_info"], height, width)
    if isinstance(given, dict) and "segmentation" in given:
        return as_masks(given["segmentation"], height, width)
    if isinstance(given, dict):
        return _segmentation(given, height, width)
    if isinstance(given, (list, tuple)):
        return _of_list(list(given), height, width)
    raise UserError(f"a mask must be a bool array (H, W), or a stack (N, H, W), not {type(given).__name__}")


def _of_object(given: Any, height: int, width: int) -> np.ndarray | None:
    """Convert arrays and objects of libraries; None for anything else."""
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "detach"):  # a tensor
        array: np.ndarray = given.detach().cpu().numpy()
        return array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if hasattr(given, "getbands"):  # a picture of PIL
        file = io.BytesIO()
        given.save(file, "PNG")
        return read_mask_bytes(file.getvalue(), "the picture")
    if hasattr(given, "pred_masks"):  # detectron2's Instances
        return as_masks(given.pred_masks, height, width)
    if hasattr(given, "pred_instances"):  # MMDetection's DetDataSample
        return as_masks(given.pred_instances.masks, height, width)
    if hasattr(given, "orig_shape") and hasattr(given, "masks"):  # ultralytics' Results
        return _of_ultralytics(given.masks, height, width)
    if hasattr(given, "xyxy") and hasattr(given, "mask"):  # supervision's Detections
        if given.mask is None and len(given.xyxy):
            raise UserError("the detections have boxes but no masks: use a model that segments")
        return np.zeros((0, height, width), bool) if given.mask is None else np.asarray(given.mask)
    return None


def _of_ultralytics(found: Any, height: int, width: int) -> np.ndarray:
    """Its masks refer to the network's padded picture, but its polygons to the photo."""
    if found is None:
        return np.zeros((0, height, width), bool)
    polygons = [np.asarray(ring, np.float64).reshape(-1).tolist() for ring in found.xy]
    return _stacked([_segmentation([ring], height, width) for ring in polygons], height, width)


def _of_torchvision(found: np.ndarray) -> np.ndarray:
    return found if found.dtype == bool else np.asarray(found > PROBABLE)


def _of_transformers(found: Any, segments: list[Any], height: int, width: int) -> np.ndarray:
    """Convert post-processed maps, in which each pixel holds the id of its segment, or run lengths of each segment."""
    if isinstance(found, list):
        return _of_list(found, height, width)
    numbers = as_masks(found, height, width)
    return _stacked([numbers == segment["id"] for segment in segments], height, width)


def _of_list(given: list[Any], height: int, width: int) -> np.ndarray:
    if not given:
        return np.zeros((0, height, width), bool)
    first = given[0]
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        return _segmentation(given, height, width)
    if isinstance(first, (list, tuple)):
        if len(first) and isinstance(first[0], bool):
            raise UserError("nested lists of bool are not accepted: convert them with np.array(rows, bool)")
        return _segmentation([list(ring) for ring in given], height, width)
    found = [as_masks(one, height, width) for one in given]
    if len(found) == 1 and found[0].ndim == 3:  # detectors return a list with one entry per photo
        return found[0]
    return _stacked(found, height, width)


def _stacked(found: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Stack masks. Raises UserError: masks of another size, or stacks."""
    for place, mask in enumerate(found):
        if mask.shape != (height, width):
            raise UserError(f"mask number {place}, counted from 0, is {mask.shape}, but the photo is {(height, width)}")
    return np.stack(found) if found else np.zeros((0, height, width), bool)


def _segmentation(given: Any, height: int, width: int) -> np.ndarray:
    try:
        return masks.decode(masks.from_segmentation(given, height, width))
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"a mask cannot be read: {error}") from error
