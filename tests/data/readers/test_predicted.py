import json
from dataclasses import replace

import numpy as np
import pytest

from amodalseg import masks, read_dataset
from amodalseg.cli import main
from amodalseg.config.schema import CocoaData, Pix2gestaltData
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.data.pack.convert import write_coco_amodal
from amodalseg.data.readers import READERS, read_cocoa
from amodalseg.data.readers.predicted import match_by_iou, use_predictions
from amodalseg.data.source import RecordList
from amodalseg.data.views import shared_pixels
from amodalseg.errors import UserError
from amodalseg.metrics.counts import read_rows
from tests.engine.journeys import ROOT
from tests.worlds import cocoa_world, compressed, disc, edit_json, kins_world, ring, run_lengths


@pytest.fixture
def root(tmp_path):
    return cocoa_world(tmp_path / "cocoa")


def shifted(mask, x, y=0):
    return np.roll(mask, (y, x), (0, 1))


def result(record, mask, score=0.5, **more):
    return {
        "image_id": int(record.image_id),
        "category_id": 1,
        "segmentation": compressed(mask),
        "score": score,
        **more,
    }


def opened(root, results, **options):
    path = root.parent / "detector.json"
    path.write_text(json.dumps(results))
    config = CocoaData(root=str(root), modal_source="pred", predictions=str(path), **options)
    return use_predictions(read_cocoa(config), config)


def test_matched_objects_get_the_predicted_mask(root, caplog):
    caplog.set_level("INFO", "amodalseg")
    records = read_cocoa(CocoaData(root=str(root)))
    of = {(record.image_id, record.category): record for record in records}
    cup, plate, dog = (of["1000", name] for name in ("cup", "plate", "dog"))
    results = [
        result(dog, shifted(dog.modal, 2), 0.9),
        result(cup, shifted(cup.modal, 1), 0.4),
        result(plate, plate.amodal, 0.7),
        result(cup, disc(90, 120, 10, 80, 5, 5)),
        result(cup, np.zeros((90, 120), bool)),
        {**result(cup, cup.modal), "segmentation": []},
        {**result(cup, cup.modal), "image_id": 5},
    ]
    found = opened(root, results)
    assert [record.key for record in found] == [cup.key, plate.key, dog.key], "in the order of the data set"
    assert np.array_equal(found[0].modal, shifted(cup.modal, 1)) and np.array_equal(found[0].gt_modal, cup.modal)
    assert np.array_equal(found[1].modal, plate.amodal) and found[1].modal_score == 0.7
    assert {record.modal_source for record in found} == {"pred:detector"}
    for record, before in zip(found, (cup, plate, dog), strict=True):
        assert record.occlusion_rate == before.occlusion_rate and np.array_equal(record.occluded, before.occluded)
        assert record.amodal_rle == before.amodal_rle and record.flags == before.flags
    text = caplog.text
    assert "3 of 12 objects have a predicted modal mask (IoU of at least 0.5); 9 objects are left out" in text
    assert "1 predictions match none, 2 are empty, 1 are of other photos" in text


def test_polygons_run_lengths_and_coco_files(root):
    cup = read_cocoa(CocoaData(root=str(root)))[0]
    outline = ring(34, 40, 16, 18)
    for segmentation in ([outline], run_lengths(cup.modal), compressed(cup.modal)):
        entry = {"image_id": f"val/{cup.image_id}", "segmentation": segmentation}
        (found,) = opened(root, {"images": [], "annotations": [entry]})
        assert np.array_equal(found.modal, cup.modal) and found.modal_score is None


def slow_matches(truths, predictions, scores, least):
    """Matching by repeatedly taking the best of all unmatched pairs."""
    chosen = []
    while True:
        best = None
        for j, prediction in enumerate(predictions):
            for i, truth in enumerate(truths):
                if i in [pair[0] for pair in chosen] or j in [pair[1] for pair in chosen]:
                    continue
                iou = (truth & prediction).sum() / max(1, (truth | prediction).sum())
                if iou >= least and iou > 0 and (best is None or (iou, scores[j]) > best[0]):
                    best = (iou, scores[j]), (i, j)
        if best is None:
            return chosen
        chosen.append(best[1])


@pytest.mark.parametrize("seed", range(6))
def test_matching_against_a_slow_transcription(seed):
    rng = np.random.default_rng(seed)

    def some(number):
        return [disc(40, 50, *rng.integers(5, 40, 2), *rng.integers(3, 12, 2)) for _ in range(number)]

    truths, predictions = some(5), some(6)
    predictions[3] = predictions[1]  # ties are decided by score, equal ground-truth masks by their order
    truths[2], scores = truths[0], [round(float(value), 1) for value in rng.random(6)]
    encoded = [[masks.encode(mask) for mask in part] for part in (truths, predictions)]
    for least in (0.0, 0.2, 0.5):
        assert match_by_iou(*encoded, scores, least) == slow_matches(truths, predictions, scores, least)


def test_shared_pixels_are_counted_from_the_masks():
    rng = np.random.default_rng(0)
    some = [rng.random((20, 30)) < 0.3, np.zeros((20, 30), bool), disc(20, 30, 5, 5, 4, 4)]
    expected = [[int((a & b).sum()) for b in some] for a in some]
    rles = [masks.encode(mask) for mask in some]
    assert shared_pixels(rles, rles).tolist() == expected


def test_matching_by_id(root):
    cup, plate = read_cocoa(CocoaData(root=str(root)))[:2]
    results = [result(cup, plate.modal, 0.3, id=plate.object_id), result(cup, cup.modal, 0.2, id="nobody")]
    (found,) = opened(root, results, match="id")
    assert found.key == plate.key and found.modal_score == 0.3
    with pytest.raises(UserError, match=f"image {cup.image_id}: the id {plate.object_id} occurs more than once"):
        opened(root, [results[0], results[0]], match="id")
    with pytest.raises(UserError, match="a result has no 'id'"):
        opened(root, [result(cup, cup.modal)], match="id")
    with pytest.raises(UserError, match=r"0 of 12 objects have a predicted modal mask \(the same id\)"):
        opened(root, results[1:], match="id")


def test_an_object_without_visible_pixels_can_be_queried_by_a_predicted_mask(root):
    ball = next(record for record in read_cocoa(CocoaData(root=str(root))) if record.category == "ball")
    assert "empty_modal" in ball.flags
    (found,) = opened(root, [result(ball, ball.amodal, id=ball.object_id)], match="id")
    assert found.flags == ball.flags - {"empty_modal"} and not found.gt_modal.any()
    config = CocoaData(root=str(root), modal_source="pred", predictions=str(root.parent / "detector.json"), match="id")
    dataset = EvaluationSet(open_source(config), seed=0)
    assert len(dataset) == 1 and np.array_equal(dataset[0][1].modal, ball.amodal)


def test_image_ids_of_another_listing_are_matched_by_file_name(root):
    cup = read_cocoa(CocoaData(root=str(root)))[0]
    path = root.parent / "images.json"
    name = "/".join(cup.image.parts[-2:])
    path.write_text(json.dumps({"images": [{"id": 3, "file_name": name}, {"id": 1000, "file_name": "other.jpg"}]}))
    results = [{**result(cup, cup.modal), "image_id": 3}, {**result(cup, cup.modal), "image_id": 1000}]
    (found,) = opened(root, results, predictions_images=str(path))
    assert found.key == cup.key
    with pytest.raises(UserError, match=r"no result of .*first image_id is 3, .*data set's is .*predictions_images"):
        opened(root, results[:1])


def test_a_listing_of_other_photos_is_refused_despite_equal_ids(root):
    cup = read_cocoa(CocoaData(root=str(root)))[0]
    path = root.parent / "images.json"
    path.write_text(json.dumps({"images": [{"id": int(cup.image_id), "file_name": "other.jpg"}]}))
    with pytest.raises(UserError, match=r"none of the photos that .*images\.json names"):
        opened(root, [result(cup, cup.modal)], predictions_images=str(path))


def test_results_with_the_numeric_image_ids_of_kins_are_matched(tmp_path):
    root = kins_world(tmp_path / "kins")
    (listing,) = root.rglob("update_test_2020.json")

    def other_ids(content):  # as in the training file, where ids have gaps
        for entry in (*content["images"], *content["annotations"]):
            key = "id" if "file_name" in entry else "image_id"
            entry[key] += 500

    edit_json(listing, other_ids)
    content = json.loads(listing.read_text())
    results = [{"image_id": item["image_id"], "segmentation": item["i_segm"], "score": 1}
               for item in content["annotations"]]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = {"modal_source": "pred", "predictions": str(tmp_path / "results.json")}
    before = {record.key: record for record in read_dataset("kins", root)}
    found = read_dataset("kins", root, predictions_images=str(listing), **options)
    assert len(found) > 6 and all(record.modal_rle == before[record.key].modal_rle for record in found)
    with pytest.raises(UserError, match="predictions_images"):
        read_dataset("kins", root, **options)


def test_objects_of_each_annotator_are_matched_separately(root):
    first = [record for record in read_cocoa(CocoaData(root=str(root))) if record.image_id == "1000"]
    second = [replace(record, object_id=f"b{record.object_id}", group={"annotator": "b"}) for record in first]
    (root.parent / "one.json").write_text(json.dumps([result(first[0], first[0].modal)]))
    found = use_predictions([*first, *second], CocoaData(root="", predictions=str(root.parent / "one.json")))
    assert [record.object_id for record in found] == [first[0].object_id, second[0].object_id]


def test_results_for_exchange_files_use_their_ids(root, tmp_path):
    records = read_cocoa(CocoaData(root=str(root)))[:6]
    for record in records:
        record.image_id = "photo-a"
    write_coco_amodal(RecordList(records), tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/val_modal.json").read_text())
    plain = [{key: item[key] for key in ("image_id", "id", "segmentation")} for item in content["annotations"]]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(plain))
    for match, number in (("iou", 5), ("id", 5)):  # the mask of one object is empty
        options = {"modal_source": "pred", "predictions": str(path), "match": match}
        found = read_dataset("coco_amodal", tmp_path / "out", **options)
        assert len(found) == number and all(record.modal_rle == record.gt_modal_rle for record in found)
        assert {record.image_id for record in found} == {"photo-a"}


def test_rows_name_the_source_of_modal_masks(root):
    records = read_cocoa(CocoaData(root=str(root)))
    opened(root, [result(record, record.modal, 0.5) for record in records if record.category in ("cup", "plate")])
    arguments = [
        f"data.root={root}", "data.split=val", "data.modal_source=pred", "trainer.progress=false", "report.html=false",
        f"data.predictions={root.parent / 'detector.json'}", "models=[modal]", f"out={root.parent / 'run'}",
    ]  # fmt: skip
    assert main(["eval", str(ROOT / "configs/eval/cocoa.yaml"), *arguments]) == 0
    rows = read_rows(root.parent / "run/objects.csv")
    assert len(rows) == 4 and {row["modal_source"] for row in rows} == {"pred:detector"}


MISTAKES = [
    (lambda r: r[0].update(segmentation=compressed(np.ones((9, 8)))), "result number 1 has a mask of 8x9, .* 120x90"),
    (lambda r: r[0].update(segmentation="mask"), "result number 1 has a mask that cannot be read"),
    (lambda r: r[0].pop("image_id"), "result number 1 lacks 'image_id'"),
    (lambda r: r[0].update(score="high"), "result number 1: 'score' must be"),
    (lambda r: r[0].update(image_id=7), "no result of .* is of a photo"),
    (lambda r: r.clear(), "it is empty"),
]


@pytest.mark.parametrize("change, message", MISTAKES)
def test_mistakes_are_refused(root, change, message):
    cup = next(record for record in read_cocoa(CocoaData(root=str(root))) if record.image_id == "1000")
    opened(root, [result(cup, cup.modal)])
    edit_json(root.parent / "detector.json", change)
    config = CocoaData(root=str(root), modal_source="pred", predictions=str(root.parent / "detector.json"))
    with pytest.raises(UserError, match=message):
        open_source(config)


def test_configuration_is_checked(root, monkeypatch):
    with pytest.raises(UserError, match=r"modal_source=pred needs data\.predictions"):
        read_dataset("cocoa", root, modal_source="pred")
    monkeypatch.setitem(READERS, "pix2gestalt", lambda config, photos: RecordList([]))
    config = Pix2gestaltData(root=str(root), modal_source="pred", predictions="a.json")
    with pytest.raises(UserError, match="convert it to coco_amodal first"):
        open_source(config)
