"""A set of pictures small enough for an exact denoiser: one flat shape of a named form and colour on a flat ground.

Each picture is a template (form, size, rotation, position) in one of the colours on a ground of any colour. The
expected clean picture, given x_t = alpha x_0 + sigma eps, is a mean over all templates and colours, weighted by their
likelihood, with the ground's colour integrated out. So errors here are due to a method, not to a network.
"""

from functools import cache

import numpy as np
import torch

from amodalseg.models.inpainting.backends.backend import CLEAN, Abilities, Estimate, InpaintingBackend, Level, Prepared
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.prior_training.validation import to_pictures

SIDE = 32
FORMS = ("disk", "square", "triangle", "cross")
COLOURS = {"red": (210, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 210), "yellow": (230, 200, 40),
           "purple": (150, 40, 170)}  # fmt: skip
RADII = (5, 7, 9)
TURNS = 4
PLACES = range(7, 26, 2)  # of the centre, in both directions
GROUND = 0.6  # standard deviation of the ground's colour around grey


def form(name, x, y):
    """bool: inside the form of radius 1 around the origin."""
    if name == "disk":
        return x**2 + (y / 0.7) ** 2 < 1
    if name == "square":
        return np.maximum(abs(x), abs(y)) < 0.72
    if name == "triangle":
        return (y < 0.5) & (y > 1.73 * abs(x) - 0.95)
    return (np.minimum(abs(x), abs(y)) < 0.27) & (np.maximum(abs(x), abs(y)) < 0.95)


@cache
def templates():
    """Masks, bool (3072, 32, 32), and their forms, indices into ``FORMS``, int (3072,)."""
    y, x = np.indices((SIDE, SIDE)) + 0.5
    masks, kinds = [], []
    for kind, name in enumerate(FORMS):
        for radius in RADII:
            for turn in range(TURNS):
                angle = turn * np.pi / TURNS / (1 if name == "disk" else 2 if name in ("square", "cross") else 1.5)
                c, s = np.cos(angle) / radius, np.sin(angle) / radius
                for row in PLACES:
                    for column in PLACES:
                        u, v = x - column, y - row
                        masks.append(form(name, c * u + s * v, c * v - s * u))
                        kinds.append(kind)
    return np.stack(masks), np.array(kinds)


class ExactWorld(InpaintingBackend):
    """A text-to-image model. A prompt may name a form and a colour; either is arbitrary if not named."""

    name = "exact_world"
    abilities = Abilities(size=SIDE, multiple=1, text=True, sees_hole=False)
    device = torch.device("cpu")

    def __init__(self):
        masks, self.kinds = templates()
        self.masks = torch.from_numpy(masks).float().flatten(1)  # (K, P)
        self.area = self.masks.sum(1).double()
        self.colours = torch.tensor(list(COLOURS.values())).double() / 127.5 - 1  # (5, 3)
        self.calls = []

    def allowed(self, prompt):
        """The forms and colours that a prompt allows, bool (K, 5)."""
        words = prompt.lower().split()
        forms = [word in words for word in FORMS]
        colours = [word in words for word in COLOURS]
        kinds = np.array(forms if any(forms) else [True] * len(FORMS))[self.kinds]
        named = np.array(colours if any(colours) else [True] * len(COLOURS))
        return torch.from_numpy(kinds[:, None] & named)

    def prepare(self, pictures, holes, prompts=None):
        prompts = [""] * len(pictures) if prompts is None else prompts
        return Prepared(pictures, holes.float(), {"text": torch.stack([self.allowed(prompt) for prompt in prompts])})

    def unconditional(self, prepared):
        return prepared

    def levels(self, steps):
        cumulated = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)  # the schedule of Stable Diffusion
        times = [1000 // steps * i + 1 for i in reversed(range(steps))]
        return [*(Level(t, cumulated[t] ** 0.5, (1 - cumulated[t]) ** 0.5) for t in times), CLEAN]

    def posterior(self, x, level, allowed):
        """The posterior over clean pictures, given one state (3, 32, 32).

        Returns:
            Indices of templates, (k,); their probability in each colour, float64 (k, 5); colours of the ground, (k, 3).
        """
        alpha, variance = level.alpha, level.sigma**2
        chosen = allowed.any(1).nonzero()[:, 0]
        area, count = self.area[chosen, None], SIDE**2 - self.area[chosen, None]
        inside = (self.masks[chosen] @ x.flatten(1).T).double()  # (k, 3)
        outside = x.double().sum((1, 2)) - inside
        spread = variance + count * (alpha * GROUND) ** 2
        ground = alpha * GROUND**2 * outside / spread
        of_ground = (alpha * outside * ground).sum(1, keepdim=True) / (2 * variance) - 1.5 * torch.log(spread)
        of_colour = alpha * inside @ self.colours.T - alpha**2 / 2 * area * (self.colours**2).sum(1)
        logits = (of_ground + of_colour / variance).masked_fill(~allowed[chosen], -torch.inf)
        return chosen, logits.flatten().softmax(0).view_as(logits), ground

    def estimate(self, x, level, prepared, taps=()):
        self.calls.append(level)
        found = []
        for state, allowed in zip(x, prepared.inputs["text"], strict=True):
            chosen, weights, ground = self.posterior(state, level, allowed)
            of_ground = weights.sum(1, keepdim=True) * ground
            of_shape = (weights @ self.colours - of_ground).float()  # (k, 3)
            found.append(of_ground.sum(0).float()[:, None] + of_shape.T @ self.masks[chosen])
        clean = torch.stack(found).view_as(x)
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, {})

    def decode(self, x, clamp=True):
        return x.clamp(-1, 1) if clamp else x

    def masks_in(self, pictures, prompts):
        """The most probable shape in each picture, uint8 (32, 32, 3): masks, bool (32, 32)."""
        states = to_pictures(pictures)
        allowed = self.prepare(states, torch.ones(len(states), 1, SIDE, SIDE), prompts).inputs["text"]
        found = []
        for state, one in zip(states, allowed, strict=True):
            chosen, weights, _ = self.posterior(state, Level(0.0, 1.0, 0.05), one)
            found.append(templates()[0][chosen[weights.sum(1).argmax()]])
        return found


def cases(count=24, least=0.3, most=0.5):
    """Partly hidden shapes behind others: crops with their categories ("red disk"), and whole masks, bool (32, 32)."""
    masks, kinds = templates()
    rng, names, values = np.random.default_rng(0), list(COLOURS), np.array(list(COLOURS.values()), np.uint8)
    crops, wholes = [], []
    while len(crops) < count:
        whole, front = rng.integers(len(masks), size=2)
        colour, other = rng.permutation(len(values))[:2]
        ground = rng.integers(0, 256, 3)
        modal = masks[whole] & ~masks[front]
        hidden, seen = 1 - modal.sum() / masks[whole].sum(), abs(ground - values[colour].astype(int)).max() > 64
        if not (least <= hidden <= most and seen):
            continue
        others = masks[kinds == kinds[whole]]
        others = others[(others[:, modal]).all(1)]
        extra = (others != masks[whole]).sum((1, 2))[others.sum((1, 2)) <= masks[whole].sum()]
        if extra.any():
            continue  # ambiguous: another shape, not larger, has the same visible part
        picture = np.where(masks[whole][..., None], values[colour], ground).astype(np.uint8)
        picture[masks[front]] = values[other]
        crops.append(Crop(picture, modal, masks[front], len(crops), f"{names[colour]} {FORMS[kinds[whole]]}"))
        wholes.append(masks[whole])
    return crops, wholes


def hidden_iou(masks, crops, wholes):
    """Mean IoU outside the visible parts, in percent."""
    scores = []
    for mask, crop, whole in zip(masks, crops, wholes, strict=True):
        one, other = mask & ~crop.modal, whole & ~crop.modal
        scores.append((one & other).sum() / max(1, (one | other).sum()))
    return 100 * float(np.mean(scores))
