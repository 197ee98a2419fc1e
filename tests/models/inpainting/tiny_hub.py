"""Tiny random models of the published classes, saved in the hub's layout: folders to load from."""

import json
from pathlib import Path

import torch

SIDE = 32
"""Of the pictures that the tiny models take, pixels."""


def pictures_and_holes(count=2, seed=0, top=8):
    """Random pictures (B, 3, S, S) in [-1, 1], each with one box as its hole, bool (B, 1, S, S)."""
    pictures = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    holes = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    holes[:, :, top:24, 4:20] = True
    return pictures, holes


def build_clip_tokenizer():
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")], model_max_length=12)


def _clip_config(tokenizer, width):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=12, projection_dim=width, hidden_act="gelu",
        bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1, pad_token_id=len(tokenizer) - 1,
    )  # fmt: skip


def _vae(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, sample_size=SIDE, **options,
    )  # fmt: skip


def _unet(**options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": SIDE // 4, "in_channels": 9, "out_channels": 4, "layers_per_block": 1,
            "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 16,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), **options,
        }
    )  # fmt: skip


def save_stable_diffusion(folder: Path, prediction: str = "epsilon", in_channels: int = 9) -> Path:
    """Stable Diffusion 1.5 (``epsilon``) or 2 (also ``v_prediction``); 9 channels: for inpainting."""
    from diffusers import PNDMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer()
    scheduler = PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1,
        prediction_type=prediction,
    )  # fmt: skip
    (StableDiffusionPipeline if in_channels == 4 else StableDiffusionInpaintPipeline)(
        _vae(), CLIPTextModel(_clip_config(tokenizer, 16)), tokenizer, _unet(in_channels=in_channels), scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def build_prior(size: int = 16):
    """The embedded prior with random weights, on patches of two; attention on its coarser grid."""
    from amodalseg.config.schema import InpaintingPriorConfig
    from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
    from amodalseg.models.inpainting.backends.prior import build_scheduler, build_unet

    torch.manual_seed(0)
    unet = build_unet(InpaintingPriorConfig(size=size, patch=2, channels=[8, 16], layers=1, head=4))
    return EmbeddedPrior.of_network(unet.eval().requires_grad_(False), build_scheduler().alphas_cumprod)


def save_sdxl(folder: Path) -> Path:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer()
    unet = _unet(
        cross_attention_dim=16 + 8, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading", steps_offset=1
    )
    StableDiffusionXLInpaintPipeline(
        _vae(force_upcast=True), CLIPTextModel(_clip_config(tokenizer, 16)),
        CLIPTextModelWithProjection(_clip_config(tokenizer, 8)), tokenizer, build_clip_tokenizer(), unet, scheduler,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_flux(folder: Path, fill: bool = False) -> Path:
    """FLUX like schnell (no guidance, no shift), or like fill (mask and masked picture as inputs)."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer()
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("cat", -1.0), ("dog", -1.0)]
    t5_tokenizer = T5Tokenizer(vocab=words, extra_ids=0, model_max_length=512)
    t5 = T5Config(vocab_size=len(t5_tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformer = FluxTransformer2DModel(
        in_channels=16 + (16 + 4 * 16 if fill else 0), out_channels=16, num_layers=1, num_single_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=8, pooled_projection_dim=16,
        guidance_embeds=fill, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if fill else 1.0, use_dynamic_shifting=fill)
    (FluxFillPipeline if fill else FluxPipeline)(
        scheduler=scheduler, vae=_vae(scaling_factor=0.36, shift_factor=0.12), tokenizer=tokenizer,
        text_encoder=CLIPTextModel(_clip_config(tokenizer, 16)), text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=t5_tokenizer, transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_sam(folder: Path) -> Path:
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    torch.manual_seed(0)
    vision = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
        "output_channels": 16, "num_pos_feats": 8, "window_size": 2, "global_attn_indexes": [0], "mlp_dim": 16,
    }  # fmt: skip
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
               "iou_head_hidden_dim": 16}  # fmt: skip
    prompt = {
        "hidden_size": 16,
        "image_size": 64,
        "image_embedding_size": 4,
        "patch_size": 16,
        "mask_input_channels": 4,
    }
    SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    ).save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    SamProcessor(SamImageProcessor(**sizes)).save_pretrained(folder)
    return folder


def save_sam2(folder: Path) -> Path:
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    torch.manual_seed(0)
    backbone = {
        "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64], "blocks_per_stage": [1, 2, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [4],
        "window_positional_embedding_background_size": [4, 4], "mlp_ratio": 1.0, "model_type": "sam2_hiera_det_model",
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
               "iou_head_hidden_dim": 16}  # fmt: skip
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    Sam2Model(config).save_pretrained(folder)
    Sam2Processor(Sam2ImageProcessor(size={"height": 64, "width": 64})).save_pretrained(folder)
    return folder


def save_grounding_dino(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "cat", "post"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    swin = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=text, num_queries=6, encoder_layers=1, encoder_ffn_dim=8,
        encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=8, decoder_attention_heads=2, d_model=32,
        num_feature_levels=3, max_text_len=16,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def save_depth(folder: Path, metric: bool = False) -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=28, patch_size=14,
        out_features=["stage1", "stage2"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=8, reassemble_factors=[2, 1],
        neck_hidden_sizes=[4, 4], fusion_hidden_size=4, head_hidden_size=4,
        depth_estimation_type="metric" if metric else "relative", max_depth=20 if metric else 1,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    for weight in model.head.parameters():
        torch.nn.init.uniform_(weight)  # positive, because the last layer clips negative values
    model.save_pretrained(folder)
    DPTImageProcessor(size={"height": 28, "width": 28}, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(
        folder
    )
    return folder


def save_dino(folder: Path) -> Path:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    BitImageProcessor(do_resize=True, do_center_crop=True, **sizes).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig

    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=12, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=16,
    )  # fmt: skip
    config = CLIPConfig(
        text_config=_clip_config(tokenizer, 16).to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    CLIPImageProcessor(**sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def change_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
