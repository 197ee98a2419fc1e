"""The control ``direct``: the same parts as CondDiff-AMO, without noise and time."""

import pytest
import torch

from amodalseg.config.schema import (
    AFGConfig,
    CondDiffAMOConfig,
    DirectConfig,
    DNConfig,
    OCRConfig,
    PCNConfig,
    PyramidConfig,
)
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.direct import Direct, DirectNetwork
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.cost import describe_cost


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def create(**pcn):
    pcn = PyramidConfig(backbone="pvt_v2_b0", drop_path=0.0, adapter_init="zero_conv", **pcn)
    return DirectNetwork(DirectConfig(pcn=pcn, dn=DNConfig(16, dropout=0.0)))


def inputs(size=64, batch=2):
    return torch.randn(batch, 3, size, size), (torch.rand(batch, 1, size, size) < 0.3).float()


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_weights_are_those_of_conddiff_amo_without_noisy_mask_and_time():
    pcn = PCNConfig(backbone="pvt_v2_b0", drop_path=0.0, adapter_init="zero_conv")
    full, direct = shapes(CondDiffAMONetwork(CondDiffAMOConfig(pcn=pcn, dn=DNConfig(16)))), shapes(create())
    gone = ("pcn.zoe.", "pcn.time_tokens.", "denoiser.time_mlp.", "denoiser.stem.", "denoiser.res_block.",
            "denoiser.encoded.")  # fmt: skip
    rest = {name.removeprefix("denoiser."): shape for name, shape in full.items() if not name.startswith(gone)}
    assert len(rest) < len(full) and rest.keys() == direct.keys()
    differing = {name: (rest[name], direct[name]) for name in rest if rest[name] != direct[name]}
    assert differing == {"decoder.0.0.weight": ((16, 32, 1, 1), (16, 16, 1, 1))}
    assert not [name for name in direct if "time" in name or "zoe" in name]


def test_the_logits_are_those_of_fusion_and_decoder():
    network = create().eval()
    image, modal = inputs()
    with torch.no_grad():
        features = network.pcn(image.contiguous(memory_format=torch.channels_last), modal)
        features[-1] = network.ocr(features[-1])
        expected = network.decoder(network.fusion(features))
        logits = network(image, modal)
    assert logits.shape == (2, 1, 64, 64) and logits.std() > 0
    assert torch.equal(logits, expected)


def test_equals_conddiff_amo_with_noisy_mask_and_time_disconnected():
    """With the same weights in shared parts, and zeros where the mask encoder enters the decoder."""
    pcn = PCNConfig(backbone="pvt_v2_b0", drop_path=0.0, adapter_init="zero_conv", zoe=False, ttc=False)
    full = CondDiffAMONetwork(CondDiffAMOConfig(pcn=pcn, dn=DNConfig(16, dropout=0.0))).eval()
    direct = create().eval()
    state = {name.removeprefix("denoiser."): value for name, value in full.state_dict().items()}
    with torch.no_grad():
        full.denoiser.decoder[0][0].weight[:, 16:] = 0
        first = full.denoiser.decoder[0][0].weight[:, :16]
        direct.load_state_dict({n: first if n == "decoder.0.0.weight" else state[n] for n in direct.state_dict()})
        image, modal = inputs()
        expected = full(image, modal, torch.randn(2, 1, 64, 64), torch.randn(2))
        torch.testing.assert_close(direct(image, modal), expected, atol=1e-5, rtol=1e-5)


def test_image_and_modal_mask_change_the_output_and_gradients_reach_all_weights():
    network = create().train()
    image, modal = inputs()
    logits = network(image, modal)
    (logits * torch.randn_like(logits)).mean().backward()
    untouched = {name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    # before the gate's zero-initialised convolution: gradients reach it from the second step on
    assert untouched == {"fusion.fuse1.hidden.weight", "fusion.fuse1.hidden.bias"}
    network.eval()
    with torch.no_grad():
        network.pcn.modal_embed.weight.normal_(0, 0.1)
        first = network(image, modal)
        assert not torch.allclose(first, network(image, 1 - modal))
        assert not torch.allclose(first, network(-image, modal))


def test_the_cost_is_that_of_the_condition_and_a_smaller_decoder():
    pcn = {"backbone": "pvt_v2_b0"}
    full = describe_cost(CondDiffAMOConfig(pcn=PCNConfig(**pcn)))
    direct = describe_cost(DirectConfig(pcn=PyramidConfig(**pcn)))
    assert [row[0] for row in direct] == ["PCN", "OCR", "LE", "linear fusion", "AFG", "decoder", "total"]
    assert direct[1:5] == full[1:5], "the same parts"
    assert direct[0][1] < full[0][1] and direct[0][2] < full[0][2] and direct[-1][2] < full[-1][2]
    size, dim = 256, 256  # by hand: convolutions at a quarter, half and the whole of the size
    quarter, half, whole = ((size // n) ** 2 for n in (4, 2, 1))
    at_quarter = dim * dim + dim * dim  # 1x1, and that of the first pixel shuffle, to 4 x d/4 channels
    at_half = 9 * (dim // 4) ** 2 + (dim // 4) * (dim // 2)
    at_whole = 9 * (dim // 8) ** 2 + dim // 8
    expected = 2 * (quarter * at_quarter + half * at_half + whole * at_whole) / 1e9
    assert direct[5][2] == pytest.approx(expected, rel=1e-6)


def test_the_parts_can_be_switched_off():
    config = DirectConfig(
        pcn=PyramidConfig(backbone="pvt_v2_b0"),
        ocr=OCRConfig(enabled=False),
        afg=AFGConfig(enabled=False),
        dn=DNConfig(16),
    )
    with torch.device("meta"):
        names = DirectNetwork(config).state_dict()
    assert not [name for name in names if name.startswith(("ocr.", "fusion.fuse1.gate"))]


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="multiples of 32, not 70x64"):
        create()(torch.zeros(1, 3, 64, 70), torch.zeros(1, 1, 64, 70))
    with pytest.raises(UserError, match=r"dn\.dim must be a multiple of 8, not 20"):
        DirectNetwork(DirectConfig(dn=DNConfig(20)))


def test_the_probability_is_the_sigmoid_and_the_mode_is_restored():
    network = create()
    model = Direct(DirectConfig(), network)
    image, modal = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), inputs()[1]
    with torch.no_grad():
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = (image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        expected = network.eval()(pixels, modal).sigmoid()
    network.train()
    torch.testing.assert_close(model.probability(image, modal), expected)
    assert network.training
