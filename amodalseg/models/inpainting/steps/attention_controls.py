"""Attention controls of the methods: mask keys, store and inject them, boost them, replace maps."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import interpolate

from amodalseg.models.inpainting.backends.attention import Control, Site


def at_site(maps: Tensor, site: Site) -> Tensor:
    """Maps (B, 1, h, w) -> float32 (B, places): the mean over each place of a layer; repeated where that is finer."""
    return interpolate(maps.float(), (site.height, site.width), mode="area").flatten(1)


class KeyMask(Control):
    """Restricts self-attention to the positions of a mask: the others have weight exactly 0.

    Args:
        where: bool or float (B, 1, h, w) on any grid. A hook may replace it during sampling.
        queries: restrict ``all`` positions, or those of the ``object``, i.e. the mask itself; the others then attend to
            everything, so that the background next to the object remains coherent.
        share: of a position that must lie in the mask for the position to count.
    """

    def __init__(self, where: Tensor, queries: str = "all", share: float = 0.5) -> None:
        assert queries in ("all", "object"), queries
        self.where, self.queries, self.share = where, queries, share

    def seen(self, site: Site) -> Tensor | None:
        if site.cross:
            return None
        inside = at_site(self.where, site) >= self.share
        keys = inside[:, None, None, :]
        return keys if self.queries == "all" else keys | ~inside[:, None, :, None]


class KeepKeys(Control):
    """Stores the keys and values of the last evaluation's self-attention, for ``PutKeys``.

    kept: by layer name, twice (B, H, K, D). For Stable Diffusion 1.5 at 512 px these are 46 MB per object in half
    precision, so they are recomputed at each step rather than stored for all steps.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}

    def start(self) -> None:
        self.kept = {}

    def keys_values(self, site: Site, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if not site.cross:
            self.kept[site.name] = (key.detach(), value.detach())
        return key, value


class PutKeys(Control):
    """Injects keys and values stored by another evaluation into self-attention."""

    def __init__(self, source: KeepKeys) -> None:
        self.source = source

    def keys_values(self, site: Site, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return (key, value) if site.cross else self.source.kept[site.name]


class Boost(Control):
    """Increases the relative weight of keys by ``factor``.

    Args:
        factor: above 0; its logarithm is added to their logits, whatever sign these have.
        places: bool (B, 1, h, w), for self-attention; None: none.
        tokens: bool (B, tokens), for cross-attention; None: none.
    """

    def __init__(self, factor: float, places: Tensor | None = None, tokens: Tensor | None = None) -> None:
        self.factor, self.places, self.tokens = factor, places, tokens

    def bias(self, site: Site) -> Tensor | None:
        if site.cross:
            return None if self.tokens is None else self.tokens[:, None, None, :].float() * math.log(self.factor)
        if self.places is None:
            return None
        return (at_site(self.places, site) >= 0.5)[:, None, None, :].float() * math.log(self.factor)


class KeepMaps(Control):
    """Stores the attention weights of layers with up to ``places`` query positions, for ``PutMaps``.

    kept: by layer name, float32 (B, H, Q, K).
    """

    def __init__(self, places: int = 32 * 32) -> None:
        self.places, self.kept = places, dict[str, Tensor]()

    def start(self) -> None:
        self.kept = {}

    def wants_maps(self, site: Site) -> bool:
        return site.places <= self.places

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        self.kept[site.name] = weights.detach()
        return weights


class PutMaps(Control):
    """Replaces the attention weights of layers. given: by layer name; other layers are unchanged."""

    def __init__(self, given: Mapping[str, Tensor]) -> None:
        self.given = given

    def wants_maps(self, site: Site) -> bool:
        return site.name in self.given

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        return self.given[site.name].to(weights)
