"""Localising an object by the network's attention: mean maps, refined by each other (DiffOOM, equations 1 to 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, Site
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.steps.attention_controls import at_site


class WatchMaps(Control):
    """Equation 2: the maps of an evaluation, averaged over heads and over all layers of one grid.

    That grid is the network's finest one with at most ``side`` positions on a side: 32 for Stable Diffusion 1.5 at
    512 px, as in the paper; 6 for the shipped prior.
    """

    def __init__(self, side: int = 32) -> None:
        self.side = side
        self.start()

    def start(self) -> None:
        self.grid, self._found = Site("", False, 0, 0), dict[bool, list[Tensor]]()

    def wants_maps(self, site: Site) -> bool:
        return max(site.height, site.width) <= self.side and site.places >= self.grid.places

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        if site.places > self.grid.places:
            self.grid, self._found = site, {}
        self._found.setdefault(site.cross, []).append(weights.detach().mean(1))
        return weights

    def self_maps(self) -> Tensor:
        """Float32 (B, P, P): the attention of each position (a row) to each other."""
        return self._mean(False)

    def cross_maps(self) -> Tensor:
        """Float32 (B, P, tokens): the attention of each position to each token of the text."""
        return self._mean(True)

    def _mean(self, cross: bool) -> Tensor:
        layers = self._found.get(cross)
        if not layers:
            kind = "to words" if cross else "between places"
            raise UserError(f"the model has no attention {kind} on a grid of {self.side} x {self.side} or coarser")
        return torch.stack(layers).mean(0)


def word_seed(watch: WatchMaps, columns: Sequence[Sequence[int]]) -> Tensor:
    """A word's cross-attention map. columns: from ``word_columns``, per object. Returns: float32 (B, P)."""
    maps = watch.cross_maps()
    return torch.stack([one[:, list(places)].mean(1) for one, places in zip(maps, columns, strict=True)])


def visible_seed(watch: WatchMaps, visible: Tensor) -> Tensor:
    """The visible region on the grid of the maps, instead of a word's map.

    Needs no text, and is the robust choice for small priors and for names unknown to the text encoder.

    Args:
        watch: after an evaluation.
        visible: bool or float (B, 1, h, w), on any grid.

    Returns:
        Float32 (B, P): the visible share of each position.
    """
    watch.self_maps()
    return at_site(visible, watch.grid)


def refined(watch: WatchMaps, seed: Tensor, power: int = 4) -> Tensor:
    """Equation 3: R = (A^S) ** power A^C. This is a matrix power: ``power`` steps of propagation.

    Args:
        watch: after an evaluation.
        seed: float (B, P), from ``word_seed`` or ``visible_seed``.
        power: lambda, non-negative; 0 leaves the seed unchanged.

    Returns:
        Float32 (B, 1, h, w), non-negative.
    """
    maps, found = watch.self_maps(), seed.float()[..., None]
    for _ in range(power):
        found = maps @ found.to(maps)
    return found.reshape(len(found), 1, watch.grid.height, watch.grid.width)


def otsu(maps: Tensor, flat: float = 0.01) -> Tensor:
    """Threshold each map by maximum between-class variance (Otsu 1979), on the values themselves.

    Args:
        maps: float (B, 1, h, w), non-negative.
        flat: a map whose values span at most this share of its maximum counts as constant and gives an empty mask; the
            method itself would call about half of it an object.

    Returns:
        Bool (B, 1, h, w), the higher values.
    """
    values, _ = maps.flatten(1).double().sort(dim=1)
    count, total = values.shape[1], values.sum(1, keepdim=True)
    below = torch.arange(1, count, device=maps.device, dtype=torch.float64)
    sums = values.cumsum(1)[:, :-1]
    means = sums / below, (total - sums) / (count - below)
    between = below * (count - below) * (means[1] - means[0]) ** 2
    # equal values stay together: among them the variance is convex, so it is largest at one of their ends
    least = values[:, 1:].gather(1, between.argmax(1, keepdim=True))
    found = maps.flatten(1).double() >= least
    flat_ = values[:, -1:] - values[:, :1] <= flat * values[:, -1:].abs()
    return (found & ~flat_).reshape(maps.shape)


def object_mask(maps: Tensor, visible: Tensor, within: Tensor | None = None) -> Tensor:
    """From refined maps to the whole object: Otsu's threshold, always united with the visible region.

    Args:
        maps: float (B, 1, h, w), from ``refined``.
        visible: bool (B, 1, H, W), on the grid of the result; the maps are interpolated to it linearly.
        within: bool (B, 1, H, W), limits the object, except for the visible region.

    Returns:
        Bool (B, 1, H, W).
    """
    wide = torch.nn.functional.interpolate(maps.float(), visible.shape[-2:], mode="bilinear", align_corners=False)
    found = otsu(wide)
    return visible.bool() | (found if within is None else found & within.bool())


def word_columns(backend: InpaintingBackend, prompt: str, word: str) -> list[int]:
    """The columns of a prompt's cross-attention maps that belong to a word.

    Args:
        backend: that reads text.
        prompt: the prepared prompt.
        word: one or more consecutive words of the prompt; all occurrences count.

    Returns:
        Columns, ascending.

    Raises:
        UserError: the word is not in the prompt as far as the network reads it; the backend reads no text.
    """
    tokens, pieces = backend.tokens(prompt), backend.tokens(word)[1:-1]
    starts = [i for i in range(1, len(tokens) - len(pieces)) if pieces and tokens[i : i + len(pieces)] == pieces]
    if not starts:
        raise UserError(f"'{word}' is not in the text '{prompt}' within the tokens that {backend.name} reads")
    return sorted({start + i for start in starts for i in range(len(pieces))})
