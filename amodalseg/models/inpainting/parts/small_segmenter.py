"""A small text-driven segmenter for the words of the captioned world, an offline replacement for CLIPSeg."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from amodalseg.atomic import replacing, write_whole
from amodalseg.data.draw.captions import WORDS
from amodalseg.errors import UserError
from amodalseg.models import CHECKPOINTS
from amodalseg.models.inpainting.backends.hub_files import first_line

SHIPPED = FOLDER = "word_segmenter"
"""Its folder in ``checkpoints/``, and in a run folder."""
WEIGHTS, ABOUT = "model.safetensors", "words.json"


def find_small(name: str) -> Path | None:
    """The folder of a small segmenter: in a run folder, the folder itself, or by name in ``checkpoints``; else None."""
    for place in [Path(name) / FOLDER, Path(name), *(folder / name for folder in CHECKPOINTS)]:
        if (place / WEIGHTS).is_file() and (place / ABOUT).is_file():
            return place
    return None


class SmallNetwork(nn.Module):
    """A U-Net with two coarser levels; the mean of the words' embeddings scales and shifts the decoder's features.

    Args:
        width: channels at full size; twice as many below.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.width = width
        self.words = nn.Embedding(len(WORDS), wide)
        self.film = nn.Sequential(nn.Linear(wide, 4 * wide), nn.SiLU(), nn.Linear(4 * wide, 4 * wide))
        self.fine = _block(3, width)
        self.middle = _block(width, wide, stride=2)
        self.coarse = _block(wide, wide, stride=2)
        self.around = _block(wide, wide, dilation=2)
        self.up_middle, self.up_fine = _block(2 * wide, wide), _block(wide + width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, pictures: Tensor, words: Tensor, counts: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), words as numbers (B, L) and how many of each row count -> logits (B, H, W)."""
        counted = torch.arange(words.shape[1], device=words.device) < counts[:, None]
        mean = (self.words(words) * counted[..., None]).sum(1) / counts[:, None].clamp(min=1)
        gains = self.film(mean)[..., None, None].chunk(4, dim=1)
        fine = self.fine(pictures)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = silu(self.around(coarse) * (1 + gains[0]) + gains[1])
        below = interpolate(coarse, middle.shape[-2:], mode="bilinear", align_corners=False)
        middle = silu(self.up_middle(torch.cat([below, middle], 1)) * (1 + gains[2]) + gains[3])
        below = interpolate(middle, fine.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.out(silu(self.up_fine(torch.cat([below, fine], 1))))
        return logits[:, 0]


def _block(inside: int, outside: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, dilation, dilation), nn.GroupNorm(1, outside), nn.SiLU(),
        nn.Conv2d(outside, outside, 3, 1, 1), nn.GroupNorm(1, outside),
    )  # fmt: skip


def numbers_of(words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts -> their words as numbers, int64 (B, L), and how many each has, (B,).

    Raises:
        UserError: a word that captions do not have.
    """
    rows = [re.findall(r"[a-z]+", text.lower()) for text in words]
    for text, row in zip(words, rows, strict=True):
        strange = [word for word in row if word not in WORDS]
        if strange or not row:
            said = f"'{strange[0]}' is not in its vocabulary" if strange else "it has no word"
            raise UserError(f"the small segmenter cannot find '{text}': {said} (it knows {', '.join(WORDS)})")
    longest = max(map(len, rows), default=1)
    table = [[WORDS.index(word) for word in row] + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(table).reshape(len(rows), longest), torch.tensor([len(row) for row in rows])


class SmallSegmenter:
    """A ``SmallNetwork`` that looks for words of the captioned world."""

    def __init__(self, network: SmallNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    def logits(self, pictures: Tensor, words: Sequence[str]) -> Tensor:
        device = self.network.out.weight.device
        numbers, counts = numbers_of(words)
        found: Tensor = self.network(pictures.to(device), numbers.to(device), counts.to(device))
        return found


def save_small(folder: Path, network: SmallNetwork, about: dict[str, Any]) -> None:
    """Write its weights, float16, and ``words.json``, the json last. about: anything worth keeping."""
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)
    with replacing(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    told = {**about, "width": network.width, "words": WORDS}
    write_whole(folder / ABOUT, json.dumps(told, indent=1))


def load_small(folder: Path) -> tuple[SmallNetwork, dict[str, Any]]:
    """Read what ``save_small`` wrote. Returns: the network in float32 on the CPU, and its metadata.

    Raises:
        UserError: a file is missing or damaged, or its vocabulary is another one.
    """
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        network = SmallNetwork(about["width"])
        network.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded ({first_line(error)}); copy it again, or train one") from error
    if tuple(about.get("words", ())) != WORDS:
        raise UserError(f"{folder} was trained on another vocabulary: train it again")
    return network, about
