"""The direct control as a training module."""

from __future__ import annotations

from torch import Tensor

from amodalseg.models.conddiff_amo.direct import Direct
from amodalseg.models.mask_training import MaskTrainingModule
from amodalseg.models.network_model import normalise
from amodalseg.types import Batch


class DirectModule(MaskTrainingModule):
    """Training of one configuration: image and modal mask in, the amodal mask out."""

    model_class = Direct

    def logits_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        modal, amodal, _, _ = batch.masks.float().split(1, dim=1)
        return self.network(normalise(batch.image), modal), amodal
