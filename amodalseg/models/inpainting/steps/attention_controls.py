"""What a method does in attention layers: mask keys, keep them and put them in elsewhere, boost them, replace maps."""

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
    """In self-attention, places gather from the places of a mask only: the others weigh exactly 0.

    Args:
        where: bool or float (B, 1, h, w) on any grid. A hook may put another one here on the way.
        queries: ``all`` places are restricted, or those of the ``object``, which is the mask itself; the others then
            see everything, so that a background next to the object still comes out as one.
        share: of a place that must lie in the mask for the place to count.
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
    """Keeps the keys and values of the last evaluation's self-attention, for ``PutKeys``.

    kept: by the layer's name, twice (B, H, K, D). Of Stable Diffusion 1.5 at 512 px, 46 MB an object in half
    precision; so they are made anew at each step and not kept over steps.
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
    """Self-attention gathers from keys and values that another evaluation kept, in place of its own."""

    def __init__(self, source: KeepKeys) -> None:
        self.source = source

    def keys_values(self, site: Site, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return (key, value) if site.cross else self.source.kept[site.name]


class Boost(Control):
    """Keys weigh ``factor`` times as much against the others as they would.

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
    """Keeps the weights of an evaluation's layers, for ``PutMaps``: up to ``places`` places that ask.

    kept: by the layer's name, float32 (B, H, Q, K).
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
    """Layers gather by given weights in place of their own. given: by the layer's name; the others stay as they are."""

    def __init__(self, given: Mapping[str, Tensor]) -> None:
        self.given = given

    def wants_maps(self, site: Site) -> bool:
        return site.name in self.given

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        return self.given[site.name].to(weights)
