"""Every model keeps the contract."""

import torch
from contract import ModelContract

from amodalseg.config.schema import (
    CondDiffAMOConfig,
    DNConfig,
    PCNConfig,
    PostConfig,
    SamplerConfig,
    WindowConfig,
)
from amodalseg.models import MODELS
from amodalseg.models.conddiff_amo.model import CondDiffAMO


class TestModal(ModelContract):
    @classmethod
    def make(cls):
        return MODELS["modal"]()


class TestBox(ModelContract):
    @classmethod
    def make(cls):
        return MODELS["box"]()


class TestConvexHull(ModelContract):
    @classmethod
    def make(cls):
        return MODELS["convex_hull"]()


def tiny(**changes) -> CondDiffAMO:
    torch.manual_seed(0)
    config = CondDiffAMOConfig(
        window=WindowConfig(size=64), pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16),
        sampler=SamplerConfig(steps=2),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(config, name, value)
    return CondDiffAMO(config)


class TestCondDiffAMO(ModelContract):
    @classmethod
    def make(cls):
        return tiny()


class TestCondDiffAMOWithoutUnion(ModelContract):
    always_contains_modal = False

    @classmethod
    def make(cls):
        return tiny(
            post=PostConfig(union_visible=False), window=WindowConfig(size=32, kind="c2f"),
            sampler=SamplerConfig(steps=3, kind="renoise_ust"),
        )  # fmt: skip
