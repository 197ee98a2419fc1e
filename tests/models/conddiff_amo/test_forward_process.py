"""The noisy masks of training against a slow transcription, element by element from the same random numbers."""

import math

import pytest
import torch

from amodalseg.config.schema import CondDiffAMOConfig, DNConfig, PCNConfig, SyntheticData, TrainConfig, WindowConfig
from amodalseg.models.conddiff_amo.module import CondDiffAMOModule

SHAPE = (3, 1, 32, 32)


def log_snr(t: float, shift: float) -> float:
    """The cosine schedule between +15 and -15, shifted."""
    low, high = math.atan(math.exp(-7.5)), math.atan(math.exp(7.5))
    return -2 * math.log(math.tan(low + t * (high - low))) + shift


def signal(t: float, shift: float) -> float:
    """alpha_bar."""
    return 1 / (1 + math.exp(-log_snr(t, shift)))


def keep(t: float, schedule: str, shift: float) -> float:
    if schedule == "alpha_bar":
        first, last = signal(0, shift), signal(1, shift)
        return (signal(t, shift) - last) / (first - last)
    return {"linear": 1 - t, "cosine": math.cos(math.pi * t / 2) ** 2, "segrefiner": 0.8 * (1 - t)}[schedule]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "segrefiner", "alpha_bar"])
@pytest.mark.parametrize("shift", [-3.41, 2.0])
def test_noisy_masks_follow_the_shifted_schedules(schedule, shift):
    model = CondDiffAMOConfig(
        window=WindowConfig(size=32), pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16)
    )  # fmt: skip
    model.gauss.shift, model.ust.schedule = shift, schedule
    config = TrainConfig(out="unused", model=model, data=SyntheticData(), val=SyntheticData())
    module = CondDiffAMOModule(config, num_steps=1)
    generator = torch.Generator().manual_seed(0)
    amodal = (torch.rand(SHAPE, generator=generator) < 0.6).float()
    modal = amodal * (torch.rand(SHAPE, generator=generator) < 0.4)

    torch.manual_seed(7)
    x_t, times = module.noisy_mask(amodal, modal)
    torch.manual_seed(7)
    assert torch.equal(times, torch.rand(3))
    uniform, noise = torch.rand(SHAPE), torch.randn(SHAPE)
    moved = 0
    for b, t in enumerate(times.tolist()):
        amodal_left = uniform[b] < keep(t, schedule, shift)
        mask = torch.where(amodal_left, amodal[b], modal[b])
        bar = signal(t, shift)
        expected = math.sqrt(bar) * (2 * mask - 1) + math.sqrt(1 - bar) * noise[b]
        # in float32 a number at the threshold may fall on its other side
        assert ((x_t[b] - expected).abs() > 1e-4).sum() <= 1
        moved += int((mask != amodal[b]).sum())
    assert moved > 50, "some pixels must be in the modal state, or the transition was not tested"
