"""CondDiff-AMO as a training module: only the forward process."""

from __future__ import annotations

import torch
from torch import Tensor

from amodalseg.diffusion.schedule import log_snr
from amodalseg.diffusion.transition import block_uniform, corrupt, keep_probability, sample_times, transit
from amodalseg.models.conddiff_amo.evaluation import time_input
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.mask_training import MaskTrainingModule
from amodalseg.models.network_model import normalise
from amodalseg.types import Batch


class CondDiffAMOModule(MaskTrainingModule):
    """Training of one configuration: the amodal mask is noised, and the network predicts it."""

    model_class = CondDiffAMO

    def logits_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        modal, amodal, _, _ = batch.masks.float().split(1, dim=1)
        x_t, t = self.noisy_mask(amodal, modal)
        return self.network(normalise(batch.image), modal, x_t, time_input(t, self.config.model)), amodal

    def noisy_mask(self, amodal: Tensor, modal: Tensor) -> tuple[Tensor, Tensor]:
        """The forward process at random times: m_t by UST, then x_t = alpha (2 m_t - 1) + sigma eps.

        Args:
            amodal, modal: float (B, 1, H, W) in {0, 1}.

        Returns:
            (x_t (B, 1, H, W), t (B,)).
        """
        model = self.config.model
        t = sample_times(
            len(amodal), model.diff.t_dist, model.diff.beta_a, model.diff.beta_b, model.sampler.steps, amodal.device
        )
        mask = amodal
        if model.ust.enabled:
            keep = keep_probability(t, model.ust.schedule, model.gauss.shift)
            mask = transit(
                amodal, modal, keep, block_uniform(tuple(amodal.shape), model.ust.block, None, amodal.device)
            )
        return corrupt(mask, log_snr(t, model.gauss.shift), torch.randn_like(amodal)), t
