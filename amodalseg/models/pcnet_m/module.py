"""PCNet-M as a training module."""

from __future__ import annotations

from torch import Tensor

from amodalseg.models.mask_training import MaskTrainingModule
from amodalseg.models.network_model import normalise
from amodalseg.models.pcnet_m.eraser import training_case
from amodalseg.models.pcnet_m.model import PCNetM
from amodalseg.types import Batch


class PCNetMModule(MaskTrainingModule):
    """Training of one configuration: the mask is completed beneath the eraser, or left unchanged."""

    model_class = PCNetM

    def logits_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        modal, amodal, _, occluder = batch.masks.float().split(1, dim=1)
        eraser, target = training_case(modal, amodal, occluder, self.config.model.eraser)
        return self.network(modal, eraser, normalise(batch.image)), target
