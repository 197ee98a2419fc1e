"""The small word segmenter as a training module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.captioned import CaptionBatch, Captioned, stack_captioned
from amodalseg.data.draw.captions import COLOURS
from amodalseg.errors import UserError
from amodalseg.models.inpainting.parts.small_segmenter import (
    FOLDER,
    SmallNetwork,
    find_small,
    load_small,
    numbers_of,
    save_small,
)
from amodalseg.models.training import TrainingModule
from amodalseg.models.weights import load_state

TITLES = ("picture", "asked for", "found")


class WordSegmenterModule(TrainingModule):
    """Training of one configuration.

    Attributes:
        network: the weights.
    """

    network: SmallNetwork

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__(config, num_steps)
        self.network = SmallNetwork(config.model.width)

    def _logits(self, picture: Tensor, words: list[str]) -> Tensor:
        numbers, counts = numbers_of(words)
        found: Tensor = self.network(picture, numbers.to(picture.device), counts.to(picture.device))
        return found.float()

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        self.seed_step(batch_idx)
        logits = self._logits(batch.picture.float() / 127.5 - 1, batch.queries)
        truth = batch.mask[:, 0].float()
        overlap = (logits.sigmoid() * truth).sum(dim=(1, 2))
        either = (logits.sigmoid() + truth).sum(dim=(1, 2)) - overlap
        there = truth.amax(dim=(1, 2))
        iou = ((1 - (overlap + 1) / (either + 1)) * there).sum() / there.sum().clamp(min=1)
        loss = binary_cross_entropy_with_logits(logits, truth) + 0.5 * iou
        self.refuse_not_finite(loss, batch.keys)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: list[Captioned], batch_idx: int) -> None:
        if not batch:
            return
        picture = stack_captioned(batch).picture.to(self.device).float() / 127.5 - 1
        absent = []
        for case in batch:
            there = {thing.colour for thing in case.scene.things}
            absent.append(f"{next(colour for colour in COLOURS if colour not in there)} {case.query.split()[1]}")
        found, wrong = (
            (self._logits(picture, words) > 0).cpu().numpy() for words in ([case.query for case in batch], absent)
        )
        for case, mask, other in zip(batch, found, wrong, strict=True):
            truth = case.mask > 0
            counts = {"inter": int((mask & truth).sum()), "union": int((mask | truth).sum())}
            self.validation_rows.append({"key": case.key, **counts, "wrong": float(other.mean())})
            if len(self.validation_pictures) < self.config.log.pictures:
                shown = [np.where(part[..., None], case.picture, np.uint8(255 * (case.picture.mean() < 128)))
                         for part in (truth, mask)]  # fmt: skip
                self.validation_pictures.append([case.picture, *shown])

    def start_from(self, name: str) -> None:
        """As in ``TrainingModule``; ``name`` is another segmenter."""
        place = find_small(name)
        if place is None:
            raise UserError(f"there is no word segmenter '{name}': give the folder of one, or of a run")
        load_state(self.network, load_small(place)[0].state_dict(), place)

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the network's current weights to a run folder. Returns: where."""
        save_small(folder / FOLDER, self.network, about)
        return folder / FOLDER


def segmenter_scores(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The scores of a validation.

    Returns:
        ``by_name``, in percent: ``iou``, the mean IoU with the visible pixels of a thing named by colour and shape;
        ``wrong``, the mean share of the picture segmented for the same shape in a colour that does not occur.
    """
    if not rows:
        return {"by_name": {"iou": None, "wrong": None}}
    iou = 100 * float(np.mean([row["inter"] / max(1, row["union"]) for row in rows]))
    return {"by_name": {"iou": iou, "wrong": 100 * float(np.mean([row["wrong"] for row in rows]))}}
