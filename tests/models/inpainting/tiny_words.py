"""A tiny random text-conditioned prior and text-driven segmenters, for tests of edits."""

import torch

from amodalseg.config.schema import InversionConfig, LossesConfig, MRGDConfig, StepsConfig, WordPriorConfig
from amodalseg.models.inpainting.backends.word_files import save_word_prior
from amodalseg.models.inpainting.backends.word_prior import WordPrior, build_network, build_tokenizer
from amodalseg.models.inpainting.parts.small_segmenter import SmallNetwork, save_small

LENGTH = 20


def small_network(size=16):
    torch.manual_seed(0)
    return build_network(
        WordPriorConfig(size=size, channels=[16, 16], layers=1, head=8, words=16, length=LENGTH)
    ).eval()


def small_words(size=16):
    """The backend, with attention on grids of size / 2 and size / 4."""
    return WordPrior.of_network(small_network(size), build_tokenizer(LENGTH))


def save_words(folder):
    """The backend and a random segmenter, saved in folders to load from. Returns: their names."""
    save_word_prior(folder / "prior", small_network(), LENGTH, {})
    torch.manual_seed(0)
    save_small(folder / "segmenter", SmallNetwork(4), {})
    return str(folder / "prior"), str(folder / "segmenter")


class Brightness:
    """Segments bright positions for every word, and more of them for longer words."""

    def __init__(self):
        self.asked = []

    def logits(self, pictures, words):
        self.asked.append(list(words))
        longer = torch.tensor([float(len(text)) for text in words])[:, None, None]
        return pictures.mean(1) * longer


def quick(**options):
    """Options with few steps; every loss is active from the first step, with weights suitable for a random network."""
    losses = LossesConfig(
        20.0, 2.0, 20.0, preservation_photo=20.0, region_from=0, similarity_from=0, preservation_from=0
    )
    return MRGDConfig(**{
        "sampler": StepsConfig(2), "inversion": InversionConfig(updates=1), "losses": losses, "every": 1,
        "total_from": 0.5, "total_from_edited": 0.5, **options,
    })  # fmt: skip
