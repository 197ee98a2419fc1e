"""Selection of the words that name something in a picture, and emphasis of their positions (MRGD, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.attention import Control, Site
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.backends.word_prior import END
from amodalseg.models.inpainting.steps.prompt_edit import pieces_of_words

BINS = 256
FLAT = 1e-4
"""A map whose values span at most this share of its maximum counts as constant."""
READINGS = ("weights", "logits")


def entropy(maps: Tensor) -> Tensor:
    """Equation 6: H = - sum_j p(j) log p(j) over the histogram of a map scaled to 0..255.

    Args:
        maps: float (..., P), non-negative, of P positions. The minimum is mapped to 0 and the maximum to 255; values in
            between are rounded down to integers, as in an 8-bit picture.

    Returns:
        float64 (...), nats, from 0 to log 256; infinite for a constant map: by the equation it would have the lowest
        entropy of all, although it shows nothing.
    """
    values = maps.double()
    least, most = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    span = most - least
    constant = span <= FLAT * most.abs()
    levels = ((values - least) / span.where(~constant, 1.0) * (BINS - 1)).floor().long()
    counts = torch.zeros((*levels.shape[:-1], BINS), dtype=torch.float64, device=maps.device)
    counts.scatter_add_(-1, levels, torch.ones_like(values))
    found = torch.special.entr(counts / values.shape[-1]).sum(-1)
    return torch.where(constant[..., 0], torch.inf, found)


def words_of(backend: InpaintingBackend, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a text as far as the network reads it, with their columns; without punctuation.

    Raises:
        UserError: the backend reads no text.
    """
    tokens = backend.tokens(prompt)
    words = [("".join(tokens[column] for column in columns), columns) for columns in pieces_of_words(tokens)]
    named = [(word.removesuffix(END), columns) for word, columns in words]
    return [(word, columns) for word, columns in named if any(letter.isalnum() for letter in word)]


def unread_words(backend: InpaintingBackend, prompt: str) -> list[str]:
    """Words of a text that are truncated by its encoder, wholly or in part; in order."""
    room, unread = len(backend.tokens(prompt)) - 2, []
    for word in prompt.split():
        room -= len(backend.tokens(word)) - 2
        if room < 0:
            unread.append(word)
    return unread


def select(maps: Tensor, words: Sequence[tuple[str, Sequence[int]]], count: int = 15) -> list[str]:
    """The words whose maps have the lowest entropy: those that are localised.

    Args:
        maps: float (P, tokens), one object's from ``WatchMaps.cross_maps``.
        words: from ``words_of``.
        count: N; all words if the text has no more.

    Returns:
        Distinct words, lowest entropy first; those with constant maps last, ties in text order. A word that occurs
        twice counts with its lower entropy.
    """
    if not words:
        return []
    found = entropy(torch.stack([maps[:, list(columns)].mean(1) for _, columns in words]))
    order = torch.sort(found, stable=True).indices.tolist()
    return list(dict.fromkeys(words[number][0] for number in order))[:count]


class Emphasise(Control):
    """KSSA: positions that respond to keywords get more weight as keys of self-attention.

    In each cross-attention layer, the half of the positions that attend most to the keywords is recorded, per object.
    The following self-attention layers on the same grid emphasise them, up to the next record; those before the first
    record of an evaluation use the previous evaluation's.

    Args:
        columns: of the keywords in each object's text (``words_of``); empty: no emphasis.
        factor: positive.
        reading: ``weights``: a position's relative weight is multiplied by ``factor`` (the paper's text). ``logits``:
            its logits are multiplied by ``factor``, so that negative ones lose weight (the released code).
        places: maximum number of positions of the layers considered.
    """

    def __init__(
        self, columns: Sequence[Sequence[int]], factor: float = 1.5, reading: str = "weights", places: int = 32 * 32
    ) -> None:
        assert reading in READINGS and factor > 0, (reading, factor)
        self.columns, self.factor, self.reading, self.places = columns, factor, reading, places
        self.chosen: dict[tuple[int, int], Tensor] = {}

    def wants_maps(self, site: Site) -> bool:
        return site.cross and site.places <= self.places

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        """Records the positions, bool (B, P); the weights are unchanged."""
        mean = weights.detach().mean(1)
        assert len(mean) == len(self.columns)
        rows = [
            best_half(one[:, list(columns)].sum(1)) if columns else torch.zeros_like(one[:, 0], dtype=torch.bool)
            for one, columns in zip(mean, self.columns, strict=True)
        ]
        self.chosen[site.height, site.width] = torch.stack(rows)
        return weights

    def _chosen(self, site: Site) -> Tensor | None:
        return None if site.cross else self.chosen.get((site.height, site.width))

    def keys_values(self, site: Site, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        chosen = self._chosen(site)
        if self.reading == "weights" or chosen is None:
            return key, value
        # a logit is linear in its key
        return torch.where(chosen[:, None, :, None], self.factor * key, key), value

    def bias(self, site: Site) -> Tensor | None:
        chosen = self._chosen(site)
        if self.reading == "logits" or chosen is None:
            return None
        return chosen[:, None, None, :].float() * math.log(self.factor)


def best_half(values: Tensor) -> Tensor:
    """Which of P values are the P // 2 largest, bool (P,); of equal ones the first."""
    order = torch.sort(values, descending=True, stable=True).indices
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[order[: len(values) // 2]] = True
    return chosen
