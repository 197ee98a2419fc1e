"""Letters and pictograms of the font that ships with matplotlib, as silhouettes of the synthetic world."""

from __future__ import annotations

from functools import cache

import numpy as np

from amodalseg.data.draw.synthetic_shapes import Rng, Silhouette
from amodalseg.errors import explain_missing

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghkmnpqrstuwy234567890&?@€£"
PICTOGRAMS = (
    "☂☎☘☕☠☢☣☮☯☸☼☾♀♁♂♃♄♆♈♉♊♌♏♐♓♔♕♖♗♘♚♛♜♝♞♟♠♣♪♫♬♻⚑⚒⚓⚔⚘⚙⚜✂✈✉✌✎✐✓✗✚✝✠✡✤✦✪✰✳✴✵✶✸✻✽✿❀❁❂❃❄❅❉❋❖❡❥❦➔➘➙➛➠➤➥➲➳➵➸➹➽"
)


@cache
def glyph_rings(character: str, bold: bool) -> tuple[np.ndarray, ...]:
    """The outline of one character; read once per process.

    Args:
        character: one the font holds.
        bold: the bold face of the same font.

    Returns:
        Closed rings, float64 (N, 2), to be filled by the even-odd rule; x to the right, y down.
    """
    try:
        import matplotlib
        from matplotlib.ft2font import FT2Font  # the font manager would index all installed fonts
        from matplotlib.path import Path
    except ModuleNotFoundError as error:
        raise explain_missing(error, "the synthetic world, which draws letters,") or error from error

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = FT2Font(f"{matplotlib.get_data_path()}/fonts/ttf/{name}")
    font.set_size(200, 72)
    assert font.get_char_index(ord(character)), f"{name} has no {character!r}"
    font.load_char(ord(character))
    return tuple(np.asarray(ring) * [1, -1] for ring in Path(*font.get_path()).to_polygons())


def letter(rng: Rng) -> Silhouette:
    """A Latin letter, digit or sign, upright, regular or bold."""
    return [(list(glyph_rings(LETTERS[rng.integers(len(LETTERS))], bool(rng.random() < 0.5))), 1)]


def pictogram(rng: Rng) -> Silhouette:
    """A pictogram: chess piece, tool, flower, snow flake, arrow, sign."""
    return [(list(glyph_rings(PICTOGRAMS[rng.integers(len(PICTOGRAMS))], False)), 1)]
