"""Guidance of regions by segmenting the predicted clean picture (MRGD, equations 2 to 4).

Rows of the state are B sources followed by their B targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, normalize

from amodalseg.models.inpainting.backends.backend import Estimate, within_memory
from amodalseg.models.inpainting.parts.words import WordSegmenter
from amodalseg.models.inpainting.steps.regions import Part, RegionsPrepared
from amodalseg.models.inpainting.steps.sample import Hook, Sampling

READINGS = ("probability", "plain", "l1")


class LossWeights(NamedTuple):
    """The paper's lambdas, and the share of the steps after which each loss is active, as in the released code."""

    region: float = 1000.0
    similarity: float = 2000.0
    preservation: float = 300.0
    region_from: float = 0.0
    similarity_from: float = 0.3
    preservation_from: float = 0.2

    def at(self, done: float) -> tuple[float, float, float]:
        """Weights of RS, IS and IP after a share of the steps; 0 if not active yet."""
        return (
            self.region * (done >= self.region_from),
            self.similarity * (done >= self.similarity_from),
            self.preservation * (done >= self.preservation_from),
        )


class RegionGuidance(Hook):
    """noise + sigma d(loss)/d(clean estimate), and the matching clean picture, so that the loss decreases.

    The gradient goes through the decoder and the segmenter, not through the network. (Line 20 of the algorithm prints
    mean + variance * gradient, which would ascend the loss, and DDIM has no variance.) A source does not follow its
    target: the similarity and preservation losses act on targets only.

    Args:
        segmenter: segments by words; None: only the preservation loss is used.
        keywords: for each region except the total one, its words joined to a text, in each row; None: no loss for it.
        inherent: float or bool (B or 1, 1, h, w) on the grid, the region to preserve.
        weights: of the losses, and when they become active.
        reading: of the segmenter's logits: ``probability`` (sigmoid), ``plain``, or ``l1``, divided by the sum of their
            magnitudes, as in the released code.
        temperature: of the similarity loss.
        sources: whether the region loss acts on sources too; not used for sources that come from a photo.

    losses: RS, IS, IP of the last step, unweighted, for reports and tests; 0 for losses not active yet.
    """

    def __init__(
        self,
        segmenter: WordSegmenter | None,
        keywords: Sequence[Sequence[str | None]],
        inherent: Tensor,
        weights: LossWeights | None = None,
        reading: str = "probability",
        temperature: float = 0.1,
        sources: bool = True,
    ) -> None:
        assert reading in READINGS, reading
        self.segmenter, self.keywords, self.inherent = segmenter, keywords, inherent
        self.weights, self.reading, self.temperature = weights or LossWeights(), reading, temperature
        self.sources = sources
        self.losses = (0.0, 0.0, 0.0)

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        counting = self.weights.at(sampling.index / sampling.steps)
        if not any(counting):
            self.losses = (0.0, 0.0, 0.0)
            return estimate
        prepared = sampling.prepared
        assert isinstance(prepared, RegionsPrepared)
        parts = [part for part in prepared.parts if not part.total]
        # sources on which no loss acts are decoded without gradients, which saves half of the decoder's memory
        first = 0 if self.sources and counting[0] else len(estimate.clean) // 2
        with torch.enable_grad(), within_memory(len(sampling.x)):
            moving = estimate.clean[first:].detach().requires_grad_()
            pictures = sampling.backend.decode(moving, clamp=False)
            clean = torch.cat([estimate.clean[:first].detach(), moving])
            if first:
                with torch.no_grad():
                    still = sampling.backend.decode(clean[:first], clamp=False)
                pictures = torch.cat([still, pictures])
            losses = self._losses(clean, pictures, parts, counting, sampling.backend.abilities.factor)
            total = sum(weight * loss for weight, loss in zip(counting, losses, strict=True))
            (slope,) = torch.autograd.grad(total + 0 * moving.sum(), moving)
        self.losses = (float(losses[0].detach()), float(losses[1].detach()), float(losses[2].detach()))
        level = sampling.level
        slope = torch.cat([torch.zeros_like(estimate.clean[:first]), slope])
        # the state, alpha clean + sigma noise, stays the same; with a zero gradient nothing changes at all
        moved = estimate.clean - level.sigma**2 / level.alpha * slope
        return Estimate(moved, estimate.noise + level.sigma * slope, estimate.features)

    def _losses(
        self, clean: Tensor, pictures: Tensor, parts: Sequence[Part], counting: Sequence[float], factor: int
    ) -> list[Tensor]:
        """RS, IS and IP; 0 for inactive losses."""
        count = len(clean) // 2
        zero = clean.new_zeros(())
        losses = [zero, zero, zero]
        # (region, row) pairs that have words, all in one call of the segmenter
        pairs = [(i, row, words) for i, rows in enumerate(self.keywords) for row, words in enumerate(rows) if words]
        if pairs and (counting[0] or counting[1]):
            assert self.segmenter is not None, "the region and similarity losses need a segmenter"
            logits = self.segmenter.logits(pictures[[row for _, row, _ in pairs]], [words for *_, words in pairs])
            maps = read(logits, self.reading)
            found = {(i, row): one for (i, row, _), one in zip(pairs, maps, strict=True)}
            if counting[0]:
                boxes = [_in_box(part, pictures, factor) for part in parts]
                moved = [key for key in found if self.sources or key[1] >= count]
                losses[0] = zero + sum(region_loss(found[i, row], boxes[i]) for i, row in moved)
            if counting[1]:
                for row in range(count):
                    both = [i for i in range(len(self.keywords)) if (i, row) in found and (i, row + count) in found]
                    if both:
                        source = torch.stack([found[i, row] for i in both]).detach()
                        target = torch.stack([found[i, row + count] for i in both])
                        losses[1] = losses[1] + similarity_loss(source, target, self.temperature)
        if counting[2]:
            where = self.inherent.to(clean)
            losses[2] = preservation_loss(clean, where) + preservation_loss(pictures, where)
        return losses


def read(logits: Tensor, reading: str) -> Tensor:
    """Segmentations M from logits (K, H, W), see ``RegionGuidance``."""
    if reading == "probability":
        return logits.sigmoid()
    return logits if reading == "plain" else normalize(logits.flatten(1), p=1).reshape(logits.shape)


def region_loss(found: Tensor, inside: Tensor) -> Tensor:
    """RS, equation 2: what one segmentation (H, W) contains outside its box, bool (H, W).

    A mean, not a sum, so that the weight does not depend on the picture's size.
    """
    return (found * ~inside).square().mean()


def similarity_loss(source: Tensor, target: Tensor, temperature: float) -> Tensor:
    """IS, equation 3: InfoNCE over the segmentations of R regions, (R, H, W) each.

    A region's segmentation in the target should be more similar, by cosine, to that of the same region in the source
    than to those of other regions. With one region the loss is 0.
    """
    cosines = normalize(target.flatten(1)) @ normalize(source.flatten(1)).T
    return cross_entropy(cosines / temperature, torch.arange(len(source), device=source.device))


def preservation_loss(values: Tensor, where: Tensor) -> Tensor:
    """IP, equation 4: how much targets differ from sources inside ``where``, a mean over all positions of any grid.

    A sum over targets, like the other losses, so that the gradient of one does not depend on their number.
    """
    source, target = values.chunk(2)
    inside = interpolate(where, values.shape[-2:])
    return (inside * (target - source.detach())).square().flatten(1).mean(1).sum()


def inherent_mask(parts: Sequence[Part], kinds: Sequence[str], height: int, width: int) -> Tensor:
    """The region to preserve: boxes of kept regions and the background, without edited boxes.

    Args:
        parts: without the total region.
        kinds: of their regions.

    Returns:
        bool (1, 1, height, width), on the grid.
    """
    stays, edited = torch.zeros(2, height, width, dtype=torch.bool)
    for part, kind in zip(parts, kinds, strict=True):
        part.box.crop(stays if kind in ("kept", "background") else edited)[:] = True
    return (stays & ~edited)[None, None]


def _in_box(part: Part, pictures: Tensor, factor: int) -> Tensor:
    inside = torch.zeros(pictures.shape[-2:], dtype=torch.bool, device=pictures.device)
    part.box.crop(inside, factor)[:] = True
    return inside
