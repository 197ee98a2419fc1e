"""A backend that always generates the same known picture."""

import numpy as np
import torch

from amodalseg.models.inpainting.backends.backend import CLEAN, Abilities, Estimate, InpaintingBackend, Level, Prepared


class KnownPicture(InpaintingBackend):
    """A pixel-space backend with the levels of a flow: x_t = (1 - sigma) x_0 + sigma eps.

    Args:
        picture: the generated picture, uint8 (S, S, 3).
        features: float (C, h, w), returned under the name ``up_blocks.2``.

    states: the (level, x, known) of every evaluation.
    """

    name = "known_picture"
    device = torch.device("cpu")

    def __init__(self, picture, features=None):
        self.picture = torch.from_numpy(picture).permute(2, 0, 1).float()[None] / 127.5 - 1
        self.abilities = Abilities(size=len(picture), multiple=1, taps=() if features is None else ("up_blocks.2",))
        self.given, self.states = features, []

    def prepare(self, pictures, holes, prompts=None):
        return Prepared(pictures, holes.float())

    def unconditional(self, prepared):
        return prepared

    def levels(self, steps):
        return [*(Level(float(s), 1 - float(s), float(s)) for s in np.linspace(1, 0, steps + 1)[:-1]), CLEAN]

    def estimate(self, x, level, prepared, taps=()):
        self.states.append((level, x.clone(), prepared.known.clone()))
        clean = self.picture.expand_as(x)
        found = {tap: torch.from_numpy(self.given).float()[None].expand(len(x), -1, -1, -1) for tap in taps}
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, found)

    def decode(self, x, clamp=True):
        return x
