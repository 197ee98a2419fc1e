"""Every model keeps the contract."""

import torch

from amodalseg.config.schema import (
    CondDiffAMOConfig,
    DirectConfig,
    DNConfig,
    NetworkPostConfig,
    PCNConfig,
    PCNetMConfig,
    PyramidConfig,
    SamplerConfig,
    WindowConfig,
)
from amodalseg.models import MODELS
from amodalseg.models.conddiff_amo.direct import Direct
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.pcnet_m.model import PCNetM
from tests.models.contract import ModelContract


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
            post=NetworkPostConfig(union_visible=False), window=WindowConfig(size=32, kind="c2f"),
            sampler=SamplerConfig(steps=3, kind="renoise_ust"),
        )  # fmt: skip


def tiny_direct(**changes) -> Direct:
    torch.manual_seed(0)
    config = DirectConfig(
        window=WindowConfig(size=64), pcn=PyramidConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16), **changes
    )
    return Direct(config)


def tiny_pcnet_m(**changes) -> PCNetM:
    torch.manual_seed(0)
    return PCNetM(PCNetMConfig(window=WindowConfig(size=64), width=4, **changes))


class TestDirect(ModelContract):
    @classmethod
    def make(cls):
        return tiny_direct()


class TestPCNetM(ModelContract):
    @classmethod
    def make(cls):
        return tiny_pcnet_m()


class TestPCNetMWithTheImageWithoutUnion(ModelContract):
    always_contains_modal = False

    @classmethod
    def make(cls):
        return tiny_pcnet_m(rgb=True, post=NetworkPostConfig(union_visible=False, threshold=0.2))
