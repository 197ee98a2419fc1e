"""Tasks of Label Studio with modal masks -> predictions with amodal ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import brush
import numpy as np

from amodalseg import UserError, masks
from amodalseg.data.images import check_pixels
from amodalseg.models.base import AmodalModel
from amodalseg.types import stable_seed

Entry = dict[str, Any]
MODAL, AMODAL = "modal", "amodal"
"""Prefix of the names of controls with modal masks, and name of the control for amodal masks."""


def complete_task(task: Entry, config: str, model: AmodalModel, read: Callable[[str], np.ndarray], seed: int) -> Entry:
    """Complete the objects of one task.

    Args:
        task: with ``data`` and ``annotations``, as Label Studio sends it. Of several annotations the last one that is
            not cancelled is used; a task without annotations has nothing to complete.
        config: the project's labelling configuration.
        model: any model.
        read: the value of an image in the task's data -> uint8 (H, W, 3) RGB.
        seed: an object's seed is derived from it and its region's id.

    Returns:
        ``result``: one region of the control ``amodal`` for each modal one, with its label and its ``score``
        (``Prediction.score``). The prediction's ``score`` is the lowest of its regions, None if none has one.

    Raises:
        UserError: the configuration lacks these controls; a mask cannot be read.
    """
    labels, fields = controls(config)
    kept = [entry for entry in task.get("annotations", []) if not entry.get("was_cancelled")]
    last = max(kept, key=lambda entry: entry.get("updated_at") or "", default={"result": []})
    regions = [region for region in last["result"] if is_modal(region)]
    found = []
    for name in dict.fromkeys(region["to_name"] for region in regions):  # a photo is read once
        if name not in fields:
            raise UserError(f"the control '{AMODAL}' is not of the image '{name}': give it toName=\"{name}\"")
        image = read(task["data"][fields[name]])
        of_image = [region for region in regions if region["to_name"] == name]
        found += [_completed(region, labels, image, model, seed) for region in of_image]
    scores = [region["score"] for region in found if region["score"] is not None]
    return {"result": found, "score": min(scores, default=None)}


def controls(config: str) -> tuple[set[str], dict[str, str]]:
    """The labels of the control ``amodal``, and for each image that it belongs to, the key in a task's data.

    Raises:
        UserError: there is no such control.
    """
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise UserError(f"the labelling configuration is not XML: {error}") from error
    found = root.find(f".//BrushLabels[@name='{AMODAL}']")
    if found is None:
        raise UserError(f'the labelling configuration has no <BrushLabels name="{AMODAL}">; labels.xml shows one')
    images = {tag.get("name", ""): tag.get("value", "").removeprefix("$") for tag in root.iter("Image")}
    names = found.get("toName", "").split(",")
    return {label.get("value", "") for label in found.iter("Label")}, {n: images[n] for n in names if n in images}


def is_modal(region: Entry) -> bool:
    """Whether a region of an annotation is a modal mask."""
    return region.get("type") in ("brushlabels", "polygonlabels") and region["from_name"].startswith(MODAL)


def modal_mask(region: Entry) -> np.ndarray:
    """The mask of a region, bool (H, W). Raises UserError: it cannot be read."""
    height, width, value = region["original_height"], region["original_width"], region["value"]
    if region.get("image_rotation"):
        raise UserError(f"region {region['id']}: the picture is turned in Label Studio; turn it back")
    check_pixels(height, width, f"region {region['id']}")
    try:
        if region["type"] == "brushlabels":
            return brush.decode(value["rle"], height, width)
        ring = np.asarray(value["points"], float) * [width / 100, height / 100]  # percent -> pixels
        return masks.decode(masks.from_segmentation(ring.ravel().tolist(), height, width))
    except (ValueError, TypeError) as error:
        raise UserError(f"region {region['id']}: {error}") from error


def _completed(region: Entry, labels: set[str], image: np.ndarray, model: AmodalModel, seed: int) -> Entry:
    mask, label = modal_mask(region), region["value"][region["type"]][0]
    if label not in labels:
        raise UserError(f"the control '{AMODAL}' has no label '{label}', but a modal region has it: add it there")
    if mask.shape != image.shape[:2]:
        raise UserError(f"region {region['id']} is of a picture of {mask.shape[::-1]}, not {image.shape[1::-1]}")
    prediction = model.predict(image, mask, seed=stable_seed("region", seed, region["id"]))
    return {
        "id": f"{region['id']}-{AMODAL}",
        "from_name": AMODAL,
        "to_name": region["to_name"],
        "type": "brushlabels",
        "original_height": mask.shape[0],
        "original_width": mask.shape[1],
        "image_rotation": 0,
        "score": prediction.score,
        "value": {"format": "rle", "rle": brush.encode(prediction.amodal), "brushlabels": [label]},
    }
