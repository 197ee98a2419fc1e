"""Average precision: against COCO's own code where it applies, against slow transcriptions where it does not."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.metrics.detection import DETECTION, Detection, Truth, amodal_ap, cls_ap

SHAPE = (40, 50)
CATEGORIES = ("cup", "dog", "tree")


def box(x, y, width, height):
    mask = np.zeros(SHAPE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def scene(seed, num_images=7, rates=(0.0, 1e-5, 0.005, 0.15, 0.25, 0.3, 0.4, 0.8)):
    """Ground truths and detections of all kinds: shifted, duplicated, of a wrong category, false, with equal scores."""
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for number in range(num_images):
        image = f"im{number:02d}"
        boxes = []
        for _ in range(0 if number == 2 else rng.integers(1, 7)):
            boxes.append([*rng.integers(0, 30, 2), *rng.integers(4, 20, 2)])
            kind = str(rng.choice(CATEGORIES))
            truths.append(Truth(image, masks.encode(box(*boxes[-1])), kind, float(rng.choice(rates)), kind == "tree"))
        for _ in range(0 if number == 3 else rng.integers(4, 14)):
            near = boxes[rng.integers(len(boxes))] if boxes and rng.random() < 0.8 else [*rng.integers(0, 30, 2), 9, 9]
            x, y, width, height = np.array(near) + rng.integers(-1, 3, 4) * (rng.random() < 0.8)
            guess = box(max(x, 0), max(y, 0), max(width, 1), max(height, 1)) & (rng.random() < 0.97)
            kind = str(rng.choice(CATEGORIES, p=[0.6, 0.3, 0.1]))
            score = round(float(rng.random()), 1) if number % 2 else float(rng.random())
            detections.append(Detection(image, masks.encode(guess), score, kind))
    order = rng.permutation(len(detections))
    return truths, [detections[i] for i in order]


def coco_eval(truths, detections, areas=None, guessed=None):
    """The figures of pycocotools. areas, guessed: visible shares that replace the masks' areas."""
    images = {name: number + 1 for number, name in enumerate(sorted({t.image for t in (*truths, *detections)}))}
    api, found = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        for target, items, shares in ((api, truths, areas), (found, detections, guessed)):
            target.dataset = {
                "images": [{"id": number, "height": SHAPE[0], "width": SHAPE[1]} for number in images.values()],
                "categories": [{"id": number + 1, "name": name} for number, name in enumerate(CATEGORIES)],
                "annotations": [
                    {"id": number + 1, "image_id": images[item.image], "segmentation": item.rle,
                     "category_id": CATEGORIES.index(item.category) + 1, "score": getattr(item, "score", 1),
                     "iscrowd": int(getattr(item, "is_crowd", False)),
                     "area": masks.area(item.rle) if shares is None else shares[number]}
                    for number, item in enumerate(items)
                ],
            }  # fmt: skip
            target.createIndex()
        evaluation = COCOeval(api, found, "segm")
        if areas is not None:
            evaluation.params.areaRng = [[0, 1.0], [0, 0.85], [0, 0.75], [0, 0.6]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else value for value in evaluation.stats]


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_cls_ap_equals_that_of_pycocotools(seed, crowd):
    truths, detections = scene(seed)
    if crowd:
        wide = masks.encode(box(0, 0, 30, 40))  # several detections lie inside one crowd
        truths[::4] = [truth._replace(is_crowd=True, rle=wide) for truth in truths[::4]]
    stats = coco_eval(truths, detections)
    found = cls_ap(truths, detections)
    names = {"AP": 0, "AP50": 1, "AP75": 2, "AR1": 6, "AR10": 7, "AR100": 8}
    assert {name: found[name] for name in names} == pytest.approx({name: stats[i] for name, i in names.items()})
    assert 0 < found["AP"] < 1


@pytest.mark.parametrize("rated", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_occluded_ap_equals_that_of_pycocotools_with_visible_shares_as_areas(seed, rated):
    truths, detections = scene(seed)
    if rated:  # the detector's estimates of the occlusion rate
        rng = np.random.default_rng(seed)
        detections = [detection._replace(rate=float(rng.choice([0, 0.15, 0.2, 0.5]))) for detection in detections]
    guessed = [1 - detection.rate if rated else 0 for detection in detections]  # 0: inside every range
    stats = coco_eval(truths, detections, [1 - truth.rate for truth in truths], guessed)
    found = cls_ap(truths, detections)
    names = {"AP": 0, "AP_occluded": 3, "AP_occluded_25": 4, "AP_occluded_40": 5}
    assert {name: found[name] for name in names} == pytest.approx({name: stats[i] for name, i in names.items()})


def slow_amodal_ap(truths, detections, kind, low, high):
    """The loops of the amodal API. Returns: AP, AP50, AP75, AR1, AR10, AR100, AR1000."""
    evaluated, npig = [], 0
    for name in sorted({t.image for t in (*truths, *detections)}):
        regions = [
            {"mask": masks.decode(t.rle),
             "_ignore": int(t.is_stuff == (kind == 1) and kind > 0) or int(t.rate < low or t.rate > high)}
            for t in truths if t.image == name
        ]  # fmt: skip
        regions.sort(key=lambda region: region["_ignore"])
        npig += sum(not region["_ignore"] for region in regions)
        guesses = sorted((d for d in detections if d.image == name), key=lambda d: -d.score)[:1000]
        lines = []
        for step in range(10):
            threshold, taken, line = 0.5 + 0.05 * step, set(), []
            for guess in guesses:
                mask, best, chosen = masks.decode(guess.rle), min(threshold, 1 - 1e-10), -1
                for number, region in enumerate(regions):
                    if number in taken:
                        continue
                    if chosen > -1 and not regions[chosen]["_ignore"] and region["_ignore"]:
                        break
                    union = (mask | region["mask"]).sum()
                    iou = (mask & region["mask"]).sum() / union if union else 0
                    if iou < best:
                        continue
                    best, chosen = iou, number
                if chosen > -1:
                    taken.add(chosen)
                line.append("wrong" if chosen == -1 else "out" if regions[chosen]["_ignore"] else "right")
            lines.append(line)
        evaluated.append(([guess.score for guess in guesses], lines))
    if not npig:
        return [None] * 7

    def reached(limit, step):
        """Returns: precisions at 101 recalls, and the last recall."""
        flat = [(score, word) for scores, lines in evaluated
                for score, word in zip(scores[:limit], lines[step][:limit], strict=True)]  # fmt: skip
        flat.sort(key=lambda pair: -pair[0])
        hits = misses = 0
        curve = []
        for _, word in flat:
            hits, misses = hits + (word == "right"), misses + (word == "wrong")
            curve.append((hits / npig, hits / (hits + misses) if hits + misses else 0.0))
        precisions = [max((p for r, p in curve if r >= n / 100 - 1e-12), default=0.0) for n in range(101)]
        return precisions, curve[-1][0] if curve else 0.0

    ap = [np.mean(reached(1000, step)[0]) for step in range(10)]
    recalls = [np.mean([reached(limit, step)[1] for step in range(10)]) for limit in (1, 10, 100, 1000)]
    return [np.mean(ap), ap[0], ap[5], *recalls]


@pytest.mark.parametrize("seed", range(3))
def test_amodal_ap_equals_its_slow_transcription(seed):
    truths, detections = scene(seed, num_images=5)
    found = amodal_ap(truths, detections)
    ranges = {"": (0, 1), "none_": (0, 1e-5), "partial_": (1e-5, 0.25), "heavy_": (0.25, 1)}
    names = ["AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR1000"]
    for number, kind in enumerate(["", "things_", "stuff_"]):
        for part, (low, high) in ranges.items():
            expected = slow_amodal_ap(truths, detections, number, low, high)
            figures = [found.pop(f"{kind}{part}{name}") for name in names]
            assert figures == pytest.approx(expected), (kind, part)
    assert not found


def square(size, image="a", category="cup", **rest):
    return {"image": image, "rle": masks.encode(box(0, 0, size, 10)), "category": category, **rest}


def test_the_ranges_of_occlusion_rates_include_both_limits():
    at = [Truth(**square(10, rate=rate), is_stuff=False) for rate in (1e-5, 0.25)]
    for truth, names in zip(at, (("none_", "partial_"), ("partial_", "heavy_")), strict=True):
        figures = amodal_ap([truth], [Detection(**square(10), score=1)])
        assert {name for name in ("none_", "partial_", "heavy_") if figures[f"{name}AP"] is not None} == set(names)


def test_an_unmatched_detection_counts_in_every_range_and_an_ignored_one_in_none():
    truths = [Truth(**square(10, rate=0.0), is_stuff=False), Truth(**square(10, "b", rate=0.5), is_stuff=False)]
    right, ignored = Detection(**square(10, "b"), score=0.5), Detection(**square(10), score=0.9)
    assert amodal_ap(truths, [right, ignored])["heavy_AP"] == pytest.approx(1)
    stray = Detection(**square(30, "c"), score=0.9)
    assert amodal_ap(truths, [right, ignored, stray])["heavy_AP"] == pytest.approx(0.5)
    assert amodal_ap(truths, [right, ignored])["stuff_AP"] is None


def test_the_number_of_detections_per_image_is_limited():
    truths = [Truth(**square(10, rate=0.0), is_stuff=False)]
    strays = [Detection(**square(40), score=1.0) for _ in range(10)]
    figures = amodal_ap(truths, [*strays, Detection(**square(10), score=0.1)])
    assert (figures["AR10"], figures["AR100"]) == (0, 1)
    assert figures["AP"] == pytest.approx(1 / 11)


def test_no_ground_truth_gives_none_and_no_detection_gives_0():
    truth = Truth(**square(10, rate=0.5), is_stuff=False)
    guess = Detection(**square(10), score=1)
    for protocol in DETECTION.values():
        assert set(protocol.compute([], [guess]).values()) == {None}
        assert set(protocol.compute([], []).values()) == {None}
        found = protocol.compute([truth], [])
        assert found["AP"] == 0 and found["AR1"] == 0
        whole = protocol.compute([truth], [guess])
        assert whole["AP"] == pytest.approx(1) and all(v is None or math.isfinite(v) for v in whole.values())
        assert protocol.explanation and protocol.source
    assert cls_ap([truth], [guess._replace(category="dog")])["AP"] == 0
    assert amodal_ap([truth], [guess._replace(category="dog")])["AP"] == pytest.approx(1)


def test_masks_of_other_sizes_are_refused_with_their_image():
    other = Detection("a", masks.encode(np.ones((4, 4), bool)), 1.0, "cup")
    with pytest.raises(UserError, match="image a: masks of one image differ in size"):
        amodal_ap([Truth(**square(10, rate=0.0), is_stuff=False)], [other])


def test_ious_equal_set_arithmetic():
    rng = np.random.default_rng(0)
    first = [rng.random(SHAPE) < fill for fill in (0, 0.2, 0.9)]
    second = [rng.random(SHAPE) < fill for fill in (0, 0.5, 1, 0.1)]
    found = masks.ious([masks.encode(m) for m in first], [masks.encode(m) for m in second])
    expected = [[(a & b).sum() / max(1, (a | b).sum()) for b in second] for a in first]
    assert found == pytest.approx(np.array(expected))
    assert masks.ious([], [masks.encode(m) for m in second]).shape == (0, 4)
    assert masks.ious([masks.encode(m) for m in first], []).shape == (3, 0)
