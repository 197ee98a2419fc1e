"""Regions with edited maps, emphasised keywords and guidance combined, on every class of Stable Diffusion."""

from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.keywords import Emphasise, words_of
from amodalseg.models.inpainting.steps.prompt_edit import EditMaps, EditSteps, align
from amodalseg.models.inpainting.steps.region_guidance import LossWeights, RegionGuidance, inherent_mask
from amodalseg.models.inpainting.steps.regions import Regions, RegionSteps, row_texts
from amodalseg.models.inpainting.steps.sample import advance, begin
from amodalseg.types import Region
from tests.models.inpainting.tiny_hub import pictures_and_holes, save_sdxl, save_stable_diffusion

LENGTH = 12
REGIONS = [
    Region("a", "a"),
    Region("cat a", "cat a", (0, 0, 0.625, 1)),
    Region("b cat", "c cat", (0.375, 0, 1, 1)),
    Region(None, "b", (0.25, 0.25, 0.75, 1)),
]
KEYWORDS = [[None, None], ["cat", "cat"], ["cat", "cat"], [None, "b"]]


class Brightness:
    """Segments bright positions for every word."""

    def logits(self, pictures, words):
        return 4 * pictures.mean(1)


@pytest.fixture(scope="module", params=["four", "four, v", "nine", "xl"])
def inner(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    if request.param == "xl":
        save_sdxl(folder)
    else:
        kind = "v_prediction" if request.param == "four, v" else "epsilon"
        save_stable_diffusion(folder, kind, in_channels=9 if request.param == "nine" else 4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def drawn(inner, attention=True, losses=None, steps=5):
    """States of a source and its target."""
    backend = Regions(inner, REGIONS, row_texts(REGIONS), weight=2.0, total=("cat b", "cat c"))
    pictures, holes = (values.expand(2, -1, -1, -1) for values in pictures_and_holes(1))
    prepared = backend.prepare(pictures, holes)
    hooks = [RegionSteps(0.6)]
    if attention:
        parts, edits = list(prepared.parts), []
        for number, texts in enumerate([*row_texts(REGIONS), ["cat b", "cat c"]]):
            if None in texts:
                continue
            mapper = align(*(inner.tokens(text) for text in texts), LENGTH, swap=True)
            edits.append(EditMaps([mapper], 1.0, 0.7))
            columns = [words_of(inner, text)[0][1] for text in texts]
            controls = (edits[-1], Emphasise(columns, 1.5))
            parts[number] = replace(parts[number], asked=replace(parts[number].asked, attention=controls))
        prepared.parts = tuple(parts)
        hooks.append(EditSteps(edits))
    if losses is not None:
        kinds = [region.kind for region in REGIONS]
        inherent = inherent_mask(prepared.parts[:-1], kinds, *prepared.known.shape[-2:])
        hooks.append(RegionGuidance(Brightness(), KEYWORDS, inherent, losses, sources=False))
    processors = [layer.processor for layer in inner.network.modules() if hasattr(layer, "processor")]
    found = advance(begin(backend, prepared, (1, 1), steps), hooks).x
    assert [layer.processor for layer in inner.network.modules() if hasattr(layer, "processor")] == processors
    assert not found.requires_grad and all(not weight.requires_grad for weight in inner.network.parameters())
    return found


def test_all_parts_can_be_combined(inner):
    plain, edited = drawn(inner, attention=False), drawn(inner)
    assert (plain - edited).abs().amax((1, 2, 3)).min() > 1e-4
    losses = LossWeights(1.0, 1.0, 1.0, 0.0, 0.3, 0.2)
    guided = drawn(inner, losses=losses)
    assert guided.isfinite().all()
    assert torch.equal(guided[0], edited[0])  # a source without guidance is bitwise the same
    assert (guided[1] - edited[1]).abs().max() > 1e-5


def test_preservation_brings_the_target_closer_to_its_source(inner):
    """In the preserved region, in the last steps; without it a random network is far from the source."""
    backend = Regions(inner, REGIONS, row_texts(REGIONS))
    prepared = backend.prepare(*(values.expand(2, -1, -1, -1) for values in pictures_and_holes(1)))
    inherent = inherent_mask(prepared.parts, [region.kind for region in REGIONS], 8, 8)
    free = drawn(inner, attention=False)
    held = drawn(inner, attention=False, losses=LossWeights(0.0, 0.0, 100.0, preservation_from=0.4))
    gaps = [float(((x[1] - x[0]) * inherent[0]).square().mean()) for x in (free, held)]
    assert 0 < gaps[1] < 0.9 * gaps[0]
