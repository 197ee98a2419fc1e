"""Control of a network's attention layers during one evaluation: masks, keys, values and weights.

A ``Control`` belongs to a ``Prepared`` (``Prepared.attention``), so it acts only on those objects; the unconditional
input of a guidance has its own controls, or none. ``attended`` restores the network's processors after each evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.prior import import_diffusers


class Site(NamedTuple):
    """An attention layer in an evaluation.

    name: of the layer in its network. cross: whether its keys are text tokens; otherwise they are the positions
    themselves. height, width: of the grid of query positions; a position's index is row * width + column.
    """

    name: str
    cross: bool
    height: int
    width: int

    @property
    def places(self) -> int:
        return self.height * self.width


class Control:
    """Hooks into every attention layer of an evaluation; the base class changes nothing.

    The order in a layer is keys_values, (logits), seen, bias, (softmax), maps. B objects, H heads, Q query positions,
    K keys: positions, or tokens of the text.
    """

    def start(self) -> None:
        """Called at the start of an evaluation."""

    def keys_values(self, site: Site, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Replace keys and values (B, H, K, D)."""
        return key, value

    def seen(self, site: Site) -> Tensor | None:
        """Attention mask, bool, broadcasts against (B, H, Q, K). A position without any key attends to all of them."""
        return None

    def bias(self, site: Site) -> Tensor | None:
        """Bias added to the logits, float, broadcasts against (B, H, Q, K)."""
        return None

    def wants_maps(self, site: Site) -> bool:
        """Whether to call ``maps`` here, for which the weights are computed explicitly: Q x K numbers per head."""
        return False

    def maps(self, site: Site, weights: Tensor) -> Tensor:
        """Replace the attention weights, float32 (B, H, Q, K), rows sum to 1."""
        return weights


def attention_layers(network: Any) -> dict[str, Any]:
    """Layers that can be controlled, by name; none unless all of the network's layers are of the standard class.

    FLUX has joint layers of text and picture, of another class.
    """
    import_diffusers()
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    layers = {name: module for name, module in network.named_modules() if isinstance(module, Attention)}
    usual = all(type(layer.processor) is AttnProcessor2_0 and not layer.spatial_norm for layer in layers.values())
    return layers if usual else {}


@contextmanager
def attended(network: Any, controls: Sequence[Control], grid: tuple[int, int]) -> Iterator[None]:
    """Context in which controls act on the network's attention layers.

    Processors are set layer by layer: ``set_attn_processor`` is missing in ``UNet2DModel``, and empties the dict it is
    given.

    Args:
        network: a ``UNet2DConditionModel`` or ``UNet2DModel``.
        controls: without any the network is not touched.
        grid: height and width of the network's input.

    Raises:
        UserError: the network's attention layers cannot be controlled.
    """
    if not controls:
        yield
        return
    layers = attention_layers(network)
    if not layers:
        raise UserError(
            f"attention controls do not work with a {type(network).__name__}: "
            "use Stable Diffusion or the embedded prior"
        )
    own = {name: layer.processor for name, layer in layers.items()}
    for control in controls:
        control.start()
    try:
        for name, layer in layers.items():
            layer.set_processor(Processor(name, controls, grid))
        yield
    finally:
        for name, layer in layers.items():
            layer.set_processor(own[name])


class Processor:
    """A layer's attention as diffusers' ``AttnProcessor2_0`` computes it, with controls.

    If no control needs explicit weights, a layer without masks gives bit-identical values.
    """

    def __init__(self, name: str, controls: Sequence[Control], grid: tuple[int, int]) -> None:
        self.name, self.controls, self.grid = name, controls, grid

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        assert attention_mask is None
        given, states = hidden_states, hidden_states
        if given.ndim == 4:
            states = states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            states = attn.group_norm(states.transpose(1, 2)).transpose(1, 2)
        told = states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            told = attn.norm_encoder_hidden_states(told)
        site = Site(self.name, encoder_hidden_states is not None, *self._shape(states.shape[1]))
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(states), attn.to_k(told), attn.to_v(told))
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        found = self._attend(site, query, key, value)
        found = attn.to_out[1](attn.to_out[0](found.transpose(1, 2).flatten(2).to(query.dtype)))
        if given.ndim == 4:
            found = found.transpose(1, 2).reshape(given.shape)
        if attn.residual_connection:
            found = found + given
        return found / attn.rescale_output_factor

    def _shape(self, places: int) -> tuple[int, int]:
        """Height and width of a grid with this many positions: the network's, halved repeatedly."""
        height, width = self.grid
        while height * width > places:
            height, width = (height + 1) // 2, (width + 1) // 2
        assert height * width == places, (self.grid, places)
        return height, width

    def _attend(self, site: Site, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The attention output of each position, (B, H, Q, D)."""
        for control in self.controls:
            key, value = control.keys_values(site, key, value)
        added = self._added(site, key)
        wanting = [control for control in self.controls if control.wants_maps(site)]
        if not wanting:
            return scaled_dot_product_attention(query, key, value, attn_mask=added)
        logits = query.float() @ key.float().transpose(-1, -2) * key.shape[-1] ** -0.5
        if added is not None:
            logits = logits.masked_fill(~added, -torch.inf) if added.dtype == torch.bool else logits + added
        weights = logits.softmax(-1)
        for control in wanting:
            weights = control.maps(site, weights)
        return weights.to(value.dtype) @ value

    def _added(self, site: Site, key: Tensor) -> Tensor | None:
        """The mask, bool, or the bias of the logits, float with -inf; None: neither."""
        masks = [mask.to(key.device) for control in self.controls if (mask := control.seen(site)) is not None]
        biases = [bias.to(key) for control in self.controls if (bias := control.bias(site)) is not None]
        if not masks:
            return sum(biases[1:], biases[0]) if biases else None
        seen = masks[0]
        for mask in masks[1:]:
            seen = seen & mask
        # softmax over no keys is NaN, and PyTorch's own attention would return zeros
        seen = seen | ~seen.any(-1, keepdim=True)
        return sum(biases[1:], biases[0]).masked_fill(~seen, -torch.inf) if biases else seen
