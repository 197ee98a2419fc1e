"""Pictures of photos with their completed objects, beside the output of ``predict --coco``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from amodalseg.data.images import load_turned, save_png
from amodalseg.engine.prediction.coco_input import CocoInput, Entry, modal_of, output_name
from amodalseg.engine.prediction.complete import Settings
from amodalseg.errors import UserError
from amodalseg.report.whole_photos import completion_picture


def write_overlays(done: Mapping[str, Entry], given: CocoInput, settings: Settings) -> list[str]:
    """One picture of each photo with its completed objects.

    Args:
        done: predictions by the annotation's key.
        given: the annotations.
        settings: with a folder for overlays.

    Returns:
        One line for each photo that failed.
    """
    assert settings.overlay is not None
    objects: dict[Any, list[str]] = {}
    for key in done:
        objects.setdefault(given.image_of[key], []).append(key)
    failures = []
    for image_id in tqdm(objects, desc="overlays", unit="photo", disable=None):
        photo = given.photos[image_id]
        try:
            image, turn = load_turned(given.paths[image_id], upright=settings.upright)
            pairs = (
                (
                    modal_of(given.entries[key], {}, settings.upright, image, turn),
                    modal_of(done[key], {}, settings.upright, image, turn),
                )
                for key in objects[image_id]
            )
            picture = completion_picture(image, pairs)
        except UserError as error:
            failures.append(f"overlay of {photo['file_name']}: {error}")
            continue
        save_png(settings.overlay / f"{output_name(photo)}.png", picture)
    return failures
