"""Cards of the published data sets, with their expected files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from amodalseg.config.schema import KinsData, PublishedData
from amodalseg.data.check.card import Card, Count, Part


def _exchanged(split: str) -> Part:
    return Part(tuple((f"annotations/{split}_{kind}.json",) for kind in ("modal", "amodal")), ())


def _cocoa(split: str, *counts: Count) -> Part:
    return Part(((f"annotations/COCO_amodal_{split}2014.json",),), (f"{split}2014",), counts)


def _bsds(split: str, *counts: Count) -> Part:
    return Part(((f"annotations/BSDS_amodal_{split}.json",),), (f"BSR/BSDS500/data/images/{split}",), counts)


def _cls(split: str, *counts: Count) -> Part:
    name = f"COCO_amodal_{split}2014_with_classes.json"
    return Part((_in(name, "annotations", "COCOA_annotations_detectron", "."),), (f"{split}2014",), counts)


def _kins(photos: str, names: tuple[str, ...], *counts: Count) -> Part:
    return Part((tuple(place for name in names for place in _in(name, ".", "annotations")),), (photos,), counts)


def _d2sa(parts: tuple[str, ...], *counts: Count) -> Part:
    folders = "d2s_amodal_annotations_v1", "annotations", "."
    files = tuple(_in(f"D2S_amodal_{part}.json", *folders) for part in parts)
    return Part(files, ("d2s_amodal_images_v1/images",), counts)


def _mp3d(split: str) -> Part:
    name = f"MP3D_seleted_{split}_10.29"
    return Part((_in(f"{name}.json", ".", "annotations") + _in(f"{name}.pkl", ".", "annotations"),), (f"mp3d_{split}",))


def _fishbowl(split: str, videos: int) -> Part:
    places = f"{split}_data/{split}_data.pkl", f"{split}_data/{split}"  # prepared, raw
    counts = (Count("videos", videos, "D", at_most=True),)  # the prepared form omits those without a usable object
    return Part((places,), (f"{split}_data/{split}_frames",), counts)


def _in(name: str, *folders: str) -> tuple[str, ...]:
    return tuple(name if folder == "." else f"{folder}/{name}" for folder in folders)


def _images(value: int, evidence: str) -> Count:
    return Count("images", value, evidence)


def _objects(value: int, evidence: str) -> Count:
    return Count("objects", value, evidence)


ZHU = "Zhu et al., Semantic Amodal Segmentation, CVPR 2017"
FOLLMANN = (
    "Follmann et al., Learning to See the Invisible: End-to-End Trainable Amodal Instance Segmentation, WACV 2019"
)
API = "annotations: the link in the README of github.com/Wakeupbuddy/amodalAPI (access may have to be requested [D])"
FOLDERS = ("occlusion",), ("visible_object_mask",), ("whole_mask",)
KINS = Card(
    title="KINS",
    paper="Qi et al., Amodal Instance Segmentation with KINS Dataset, CVPR 2019",
    get="annotations: github.com/qqlu/Amodal-Instance-Segmentation-through-KINS-Dataset; photos: "
    "data_object_image_2.zip of KITTI (cvlibs.net)",
    licence="photos CC BY-NC-SA 3.0 [U]; the repository of the annotations states none",
    parts={
        "train": _kins("training/image_2", ("update_train_2020.json",), _images(7474, "U"), _objects(95311, "U")),
        "test": _kins("testing/image_2", ("update_test_2020.json",), _images(7517, "U"), _objects(92492, "U")),
    },
    errors=(
        "the two files of 2020 are said to share image ids and counts [I]: ids restart in every file, so an image is "
        "named by its file, and photos of the two splits are compared byte for byte",
        "some `inmodal_bbox` are wrong [I]: boxes are computed from masks and only compared with the stored ones",
        "multi-ring polygons occur: their union is the mask",
        "category 3 (rider) is listed in 2020 and has no object",
        "two different versions of the files of 2019 exist in the repository's history [C]; lists also name "
        "`instances_val_upate.json` (sic), which is read too",
        "photos differ in size by a few pixels: the file is trusted",
    ),
    names_restart=True,
    compare_masks=True,
)
FISHBOWL = Card(
    title="FishBowl",
    paper="Tangemann et al., Unsupervised Object Learning via Common Fate; amodal use: Yao et al., Self-supervised "
    "Amodal Video Object Segmentation (SaVOS), NeurIPS 2022",
    get="test: FISHBOWL_test_data.zip and test_files.zip in SaVos_release/FISHBOWL of the dgl-data S3 bucket; training "
    "videos are generated with github.com/amazon-science/common-fate-fishbowl [D]",
    licence="the generator is Apache-2.0 [D]; none is stated for the rendered videos",
    parts={"train": _fishbowl("train", 10_000), "test": _fishbowl("test", 1000)},
    errors=(
        "boxes of the prepared form are [rowmin, rowmax, colmin, colmax], inclusive: converted to the usual form",
        "run lengths of the prepared form are wrapped in a list of one: unwrapped",
        "video numbers restart in every split",
        "SaVOS tests on 1,521 tracks [U] that are partly occluded at some time: `subset=savos`",
    ),
    names_restart=True,
)

CARDS: dict[str, Card] = {
    "cocoa": Card(
        title="COCOA",
        paper=ZHU,
        get=f"{API}; photos: COCO train2014, val2014, test2014 from cocodataset.org",
        licence="annotations CC BY 4.0 through COCO [D]; photos under the terms of Flickr",
        parts={
            "train": _cocoa("train", _images(2500, "P"), _objects(22163, "P")),
            "val": _cocoa("val", _images(1323, "P"), _objects(12753, "P")),
            "test": _cocoa("test", _images(1250, "P")),
        },
        errors=(
            "a visible mask can be present and empty (total occlusion): it stays empty, flag `empty_modal`",
            "masks, json and photo can differ in size, probably in test: flag `size_mismatch`, the photo is resized",
            "`images` and `annotations` are in different order: joined by `image_id`, never by position",
            "`order` has gaps and `size` is not the number of regions where regions were removed: neither is used",
            "names contain typos and trailing blanks: blanks are stripped",
        ),
    ),
    "bsds_a": Card(
        title="BSDS-A",
        paper=ZHU,
        get=f"{API}, in the archive of COCOA; photos: BSR_bsds500.tgz (Berkeley)",
        licence="annotations as COCOA; none was found for the photos of BSDS500",
        parts={
            "train": _bsds("train", _images(200, "D")),
            "val": _bsds("val", _images(100, "D")),
            "test": _bsds("test", _images(200, "D")),
        },
        errors=(
            "about 5 to 7 people annotated each image, in separate records: never merged; `annotator=first` takes "
            "the first record of an image, as the amodal API does. The papers do not say whose annotation they use",
            "licence and date of test images can be `?`: not read",
        ),
    ),
    "cocoa_cls": Card(
        title="COCOA-cls",
        paper=FOLLMANN,
        get="COCO.zip, linked from github.com/YihongSun/Bayesian-Amodal (the original server is gone), folder "
        "COCOA_annotations_detectron [D]; photos: COCO train2014, val2014",
        licence="not found; assumed to be that of COCOA",
        parts={"train": _cls("train", _images(2276, "I")), "val": _cls("val", _images(1223, "U"))},
        total=(_objects(10562, "D"),),
        errors=(
            "papers print 2,476 training images, the file has 2,276 [I]",
            "the only box is the amodal one: a crop by it leaks the ground truth, so boxes are computed from masks",
            "what C2F-Seg calls COCOA is this set",
        ),
    ),
    "kins": KINS,
    "kins_2019": replace(
        KINS,
        parts={
            "train": replace(KINS.parts["train"], annotations=(_in("instances_train.json", ".", "annotations"),)),
            "test": _kins(
                "testing/image_2", ("instances_val.json", "instances_val_upate.json"), *KINS.parts["test"].counts
            ),
        },
    ),
    "d2sa": Card(
        title="D2SA",
        paper=FOLLMANN,
        get="D2S Amodal from mvtec.com/company/research/datasets: d2s_amodal_annotations_v1, d2s_amodal_images_v1",
        licence="CC BY-NC-SA 4.0 [U]",
        parts={
            "train": _d2sa(("training_rot0", "augmented"), _images(438 + 1562, "P"), _objects(690 + 12376, "P")),
            "val": _d2sa(("validation",), _images(3600, "P"), _objects(15654, "P")),
        },
        errors=(
            "masks of 1440x1920 or padded to 1534x1920 (height x width): compared with the photo, flag `size_mismatch`",
            "`amodal_region.order` gives occluded objects as the nearest: not used",
            "`iscrowd` is true or false, areas and boxes are not integers: read unchanged",
            "test_info has no ground truth: refused",
        ),
        known={"sizes": "masks can be padded"},
    ),
    "mp3d": Card(
        title="MP3D-Amodal",
        paper="Zhan et al., Amodal Ground Truth and Completion in the Wild, CVPR 2024",
        get="thor.robots.ox.ac.uk/amodal: MP3D_seleted_eval_10.29.pkl, MP3D_seleted_train_10.29.pkl (sic), "
        "mp3d_eval.zip, mp3d_train.zip",
        licence="the terms of use of Matterport3D",
        parts={"train": _mp3d("train"), "eval": _mp3d("eval")},
        errors=(
            "the annotations are a pickle: none of it is executed, because only a fixed list of names for containers, "
            "numbers and text is allowed; `amodalseg data convert` converts it to json once",
            "the README says `same with COCOA`; run lengths are bytes, the rate's key is `occlusion_rate`, both masks "
            "are always there [C]",
            "a later paper removes `meaningless architectural elements` from it [D]: they are still in these files",
        ),
    ),
    "pix2gestalt": Card(
        title="Pix2gestalt's training set",
        paper="Ozguroglu et al., pix2gestalt: Amodal Segmentation by Synthesizing Wholes, CVPR 2024",
        get="gestalt.cs.columbia.edu/assets/pix2gestalt_occlusions_release.tar.gz",
        licence="research only, terms of SA-1B [D]",
        parts={"train": Part(FOLDERS, ("occlusion",)), "val": Part(FOLDERS, ("occlusion",))},
        total=(Count("objects", 837_000, "D", about=True),),
        errors=(
            "the official loader pairs four sorted listings by position, so one missing file shifts all that follow "
            "[C]: files are paired by id, ids without a file are left out and counted",
            "no category, no mask of the occluder, no photo without it [I]",
        ),
    ),
    "fishbowl": FISHBOWL,
    "sailvos": Card(
        title="SAIL-VOS",
        paper="Hu et al., SAIL-VOS: Semantic Amodal Instance Level Video Object Segmentation, CVPR 2019",
        get="download_sailvos.sh from sailvos.web.illinois.edu",
        licence="a research agreement [U]",
        parts={
            "train": Part((_in("train.json", ".", "annotations"),), (".",)),
            "val": Part((_in("valid.json", ".", "annotations"),), (".",)),
        },
        errors=(
            "visible masks are slightly eroded against the amodal mask even where nothing occludes [C]: `tolerance=2` "
            "undoes it as Diffusion-VAS does, before anything is scored",
            "papers drop objects with an occlusion rate above 0.95, or 0.75, and 20 categories [C]: `max_rate`, "
            "`drop_categories`",
        ),
        known={"rates": "visible masks are slightly eroded"},
    ),
    "coco_amodal": Card(
        title="the exchange format",
        paper="two COCO-instances files, modal and amodal, that share ids",
        get="amodalseg data convert writes it from any other data set",
        licence="that of the original data set",
        parts={},
        names_restart=True,
    ),
}
"""Cards by ``data.name``; a second form of a data set has its own name."""
OTHER_WORDS = {
    "kins": {"val": "test"}, "sailvos": {"valid": "val"}, "d2sa": {"validation": "val"},
    "mp3d": {"val": "eval", "test": "eval"},
}  # fmt: skip
"""Other names of splits that readers accept."""


def card_of(config: PublishedData) -> Card:
    """The card of a data set, in the form selected by its options."""
    if isinstance(config, KinsData) and config.version == "2019":
        return CARDS["kins_2019"]
    return CARDS[config.name]


def usual_split(config: PublishedData, split: str) -> str:
    """A split under the name that its card uses: ``val2014`` is ``val``, and what KINS calls val is its ``test``."""
    return OTHER_WORDS.get(config.name, {}).get(split, split.removesuffix("2014"))


def expected_parts(config: PublishedData) -> dict[str, Part]:
    """Expected files by split: as published, or as given by ``annotations`` and ``images``.

    If the folder itself defines the splits (``coco_amodal``), those that exist; a data set given as one file has only
    the split named in the configuration.
    """
    root, parts = Path(config.root), dict(card_of(config).parts)
    own = usual_split(config, config.split)
    if not parts:
        found = sorted(root.glob("annotations/*_modal.json"))
        names = [path.name.removesuffix("_modal.json") for path in found]
        parts = {name: _exchanged(name) for name in names or [own]}
    if root.is_file() or config.annotations is not None:
        source = str((root if config.annotations is None else Path(config.annotations)).absolute())
        photos = () if root.is_file() or own not in parts else parts[own].photos
        parts = {own: Part(((source,),), photos, parts[own].counts if own in parts else ())}
    if config.images is not None:
        folder = str(Path(config.images).absolute())
        parts = {name: replace(part, photos=(folder,)) for name, part in parts.items()}
    return parts


def find(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of several names that exists."""
    return next((root / name for name in names if (root / name).exists()), None)
