"""Checks of the polygons stored in nested files (COCOA, BSDS-A); readers of flat files have their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amodalseg.data.check.finding import Finding, finding
from amodalseg.data.readers.files import load_json


def check_outlines(source: Path, split: str) -> list[Finding]:
    """Find polygons that leave their image; [0, W] x [0, H] is inside.

    Args:
        source: an annotation file that a reader has accepted.
        split: for the finding.

    Returns:
        One note (``reader``), or nothing: also for files of another form.
    """
    content: Any = load_json(source)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        return []
    images = {image["id"]: image for image in content["images"]}
    places, total = [], 0
    for entry in content["annotations"]:
        image = images[entry["image_id"]]
        for index, region in enumerate(entry.get("regions", ())):
            try:
                far = _excess(region, image)
            except (TypeError, ValueError, LookupError, AttributeError):  # of an annotator that is not read
                far = None
            if far is not None:
                total += 1
                if far > 0:
                    places.append(f"{source.name}: annotation {entry['id']}, region {index}: by {far:.1f} pixels")
    if not places:
        return []
    text = f"{len(places):,} of {total:,} polygons leave their image and are cut at its border, as COCO's tools do"
    return [finding("reader", "note", split, text, places)]


def _excess(region: dict[str, Any], image: dict[str, Any]) -> float | None:
    """How far the polygons of a region leave the image, pixels; at most 0 if they do not; None: not polygons."""
    ring = region["segmentation"]
    height, width = region.get("visible_mask", {}).get("size", [image["height"], image["width"]])
    if not isinstance(ring, list):
        return None
    flats = ring if isinstance(ring[0], list) else [ring]
    return max(max(-min(flat), max(flat[0::2]) - width, max(flat[1::2]) - height) for flat in flats)
