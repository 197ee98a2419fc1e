"""Attention maps of a source text in the generation for a target text (Hertz et al., Prompt-to-Prompt, 2022).

Rows of a state are the sources followed by as many targets, so both share an evaluation and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, Site
from amodalseg.models.inpainting.backends.word_prior import END
from amodalseg.models.inpainting.steps.sample import Hook, Sampling


class Mapper(NamedTuple):
    """From the columns of a source text's maps to those of a target text's.

    matrix: float32 (tokens, tokens), source x target. taken: bool (tokens), which columns of the target come from the
    source; the others stay the target's own.
    """

    matrix: Tensor
    taken: Tensor


def align(source: Sequence[str], target: Sequence[str], length: int, swap: bool = False) -> Mapper:
    """Find the corresponding columns of two texts' maps.

    Refinement: tokens matched by a longest common subsequence correspond; tokens that only the target has keep their
    own maps. (This is the alignment of the published code, which scores a match 1, a mismatch -1 and a gap 0.) Word
    swap: the n-th words correspond, whether equal or not; where they have different numbers of tokens, the maps of the
    source's tokens are distributed evenly. The padding after the texts corresponds position by position, starting at
    the end token.

    Args:
        source, target: ``backend.tokens`` of the two texts, with start and end tokens.
        length: number of columns of the maps, including padding.
        swap: word swap instead of refinement.

    Raises:
        UserError: word swap of texts with different numbers of words.
    """
    assert max(len(source), len(target)) <= length
    matrix, taken = torch.zeros(length, length), torch.zeros(length, dtype=torch.bool)
    if swap:
        olds, news = pieces_of_words(source), pieces_of_words(target)
        if len(olds) != len(news):
            raise UserError(
                f"{len(olds)} words cannot be swapped for {len(news)}: give texts of as many words, or refine the text"
            )
        for old, new in zip(olds, news, strict=True):
            for number, column in enumerate(new):
                if len(old) == len(new):
                    matrix[old[number], column] = 1
                else:
                    matrix[old, column] = 1 / len(new)
                taken[column] = True
        matrix[0, 0] = taken[0] = 1
    else:
        for row, column in common_subsequence(source[:-1], target[:-1]):
            matrix[row, column] = taken[column] = 1
    for column in range(len(target) - 1, length):
        matrix[min(column - len(target) + len(source), length - 1), column] = taken[column] = 1
    return Mapper(matrix, taken)


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices of a longest common subsequence, ascending; the earliest one if several are equally long."""
    longest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in reversed(range(len(one))):
        for j in reversed(range(len(other))):
            same = one[i] == other[j]
            longest[i][j] = 1 + longest[i + 1][j + 1] if same else max(longest[i + 1][j], longest[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def pieces_of_words(tokens: Sequence[str]) -> list[list[int]]:
    """The columns of each word in ``backend.tokens``, without start and end tokens; a truncated word counts too."""
    words: list[list[int]] = []
    going = False
    for column in range(1, len(tokens) - 1):
        if going:
            words[-1].append(column)
        else:
            words.append([column])
        going = not tokens[column].endswith(END)
    return words


class EditMaps(Control):
    """Targets use the attention maps of their sources, for a share of the steps.

    Cross-attention maps pass through a mapper: column j of the target is the corresponding column of the source, or its
    own. As published they are not renormalised to sum to 1. Self-attention maps are the source's, in layers with few
    positions.

    Args:
        mappers: from ``align``, one for each of B targets; the evaluation has 2 B rows, sources first.
        cross: share of the steps in which cross-attention maps are replaced; 0: none.
        own: the same for self-attention maps.
        places: maximum number of positions of layers whose self-attention maps are replaced.
        decay: the source's weight falls linearly from 1 at the first step to 0 at the end of the share; without it, it
            is 1 until then.
    done: the share of completed steps, set by ``EditSteps``.
    """

    def __init__(
        self, mappers: Sequence[Mapper], cross: float, own: float, places: int = 16 * 16, decay: bool = True
    ) -> None:
        self.matrix = torch.stack([mapper.matrix for mapper in mappers])
        self.taken = torch.stack([mapper.taken for mapper in mappers])
        self.cross, self.own, self.places, self.decay, self.done = cross, own, places, decay, 0.0

    def strength(self, cross: bool) -> float:
        """The source's current weight, in [0, 1]."""
        share = self.cross if cross else self.own
        if self.done >= share:
            return 0.0
        return 1 - self.done / share if self.decay else 1.0

    def wants_maps(self, site: Site) -> bool:
        return self.strength(site.cross) > 0 and (site.cross or site.places <= self.places)

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        strength = self.strength(site.cross)
        source, target = weights.chunk(2)
        assert len(source) == len(self.matrix), "sources and targets are in one evaluation"
        given = source
        if site.cross:
            mapped = source @ self.matrix[:, None].to(source)
            given = torch.where(self.taken[:, None, None].to(source.device), mapped, target)
        return torch.cat([source, strength * given + (1 - strength) * target])


class EditSteps(Hook):
    """Passes the share of completed steps to controls before each step."""

    def __init__(self, controls: Sequence[EditMaps]) -> None:
        self.controls = controls

    def model_input(self, sampling: Sampling, x: Tensor) -> Tensor:
        for control in self.controls:
            control.done = sampling.index / sampling.steps
        return x
