import json

import numpy as np
import pytest
from scipy.ndimage import minimum_filter

from amodalseg.config.load import build
from amodalseg.config.schema import DataOnly, SailVosData
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.data.readers import read_sailvos
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import edit_json, sailvos_world


@pytest.fixture
def root(tmp_path):
    return sailvos_world(tmp_path / "sailvos")


def read(root, **options):
    return read_sailvos(SailVosData(root=str(root), **options))


def drawn(root, **options):
    source = open_source(SailVosData(root=str(root), **options))
    return [source.get(i) for i in range(len(source))]


def test_videos_frames_and_tracks(root):
    records = read(root)
    assert {record.image_id for record in records} == {
        f"val_{video}-{6 * frame:06d}" for video in ("ah_1", "mcs_2") for frame in (0, 1)
    }
    for record in records:
        video, _, stem = record.image_id.rpartition("-")
        assert record.group["video"] == video and record.group["frame"] == int(stem)
        assert record.image == root / video / "images" / f"{stem}.bmp"
        assert record.key.count("/") == 3 and record_image(record).shape == (80, 128, 3)
    tracks = {(record.group["video"], record.group["track"]) for record in records}
    assert len(tracks) == 12 and len(records) == 24, "a track goes through the frames of its video"
    assert [record.key for record in read(root, split="valid")] == [record.key for record in records]


@pytest.mark.parametrize("track", [[3], {"a": 1}])
def test_a_track_without_a_name_is_refused(root, track):
    edit_json(root / "valid.json", lambda content: content["annotations"][0].update(obj_id=track))
    with pytest.raises(UserError, match=r"valid\.json: annotation number 1: 'obj_id' must be"):
        read(root)


def test_frames_without_a_number_or_a_track(root):
    def change(content):
        for image in content["images"]:
            del image["frame_id"]
        for entry in content["annotations"]:
            del entry["obj_id"]

    edit_json(root / "valid.json", change)
    assert {(record.group["frame"], record.group["track"]) for record in read(root)} == {
        ("000000", None),
        ("000006", None),
    }


def test_equal_frame_numbers_of_two_videos_are_distinct_images(root):
    records = read(root)
    names = [record.image.name for record in records]
    assert len(set(names)) == 2 and len({record.image_id for record in records}) == 4


def test_stored_quantities(root):
    for record in read(root):
        assert record.extra["area"] == record.amodal.sum() and record.extra["modal_area"] == record.modal.sum()
        assert record.extra["occlu_depth"] == record.group["track"] - 100
        assert record.raw_rate == pytest.approx(record.occlusion_rate)


def test_max_rate_leaves_out_objects_by_their_computed_rate(root):
    records = read(root)
    limit = sorted(record.occlusion_rate for record in records)[len(records) // 2]
    kept = read(root, max_rate=limit)
    assert [record.key for record in kept] == [r.key for r in records if r.occlusion_rate <= limit + 1e-12]
    assert 0 < len(kept) < len(records) and len(read(root, max_rate=0.0)) == 4
    # the stored rate is not used
    edit_json(root / "valid.json", lambda content: [entry.update(occlude_rate=0) for entry in content["annotations"]])
    with pytest.warns(UserWarning, match="occlusion rate of 20 of 24 objects differs"):
        assert [record.key for record in read(root, max_rate=limit)] == [record.key for record in kept]


def test_drop_categories_leaves_out_categories(root):
    left = read(root, drop_categories=["car", "chair"])
    assert {record.category for record in left} == {"person"} and len(left) == 8
    with pytest.raises(UserError, match=r"valid\.json has no category 'cars' that could be left out"):
        read(root, drop_categories=["cars"])


def test_tolerance_counts_seams_as_visible_without_changing_the_given_mask(root):
    plain, tolerant = drawn(root), drawn(root, tolerance=1)
    seams = 0
    for before, after in zip(plain, tolerant, strict=True):
        assert before.key == after.key and after.modal_rle == before.modal_rle, "the model is given the file's mask"
        assert after.amodal_rle == before.amodal_rle and after.modal_source == "gt"
        if not before.modal.any():
            assert after.flags == before.flags == {"empty_modal"} and after.occlusion_rate == 1
            continue
        hidden = before.amodal & ~before.modal
        padded = np.pad(hidden, 1, constant_values=True)  # no erosion from the photo's border
        kept = minimum_filter(padded, size=3)[1:-1, 1:-1]
        assert np.array_equal(after.occluded, kept)
        assert np.array_equal(after.gt_modal, before.modal | (before.amodal & ~kept))
        assert ("fully_visible" in after.flags) == (not kept.any())
        assert after.occlusion_rate == pytest.approx(kept.sum() / before.amodal.sum())
        seams += "fully_visible" in after.flags and "fully_visible" not in before.flags
    assert seams >= 4, "objects that nothing occludes count as hidden without the tolerance"


def test_tolerance_in_an_evaluation(root):
    source = open_source(SailVosData(root=str(root), tolerance=2, num_objects=20))
    asked = EvaluationSet(source, seed=0)
    empty = sum("empty_modal" in record.flags for record in (source.get(i) for i in range(20)))
    assert len(source) == 20 and 0 < asked.num_unprompted == empty
    record, query = asked[0]
    assert np.array_equal(query.modal, record.modal)
    for value in ("-1", "21"):
        with pytest.raises(UserError, match=r"tolerance: .* \(must be between 0 and 20\)"):
            build(DataOnly, [("test", {"data": {"name": "sailvos", "root": "x", "tolerance": int(value)}})])


def test_nothing_is_decoded_while_reading(root, monkeypatch):
    def refuse(rle):
        raise AssertionError("decoded")

    monkeypatch.setattr("amodalseg.masks.decode", refuse)
    assert len(read(root, tolerance=2, max_rate=0.9)) == 20
    source = open_source(SailVosData(root=str(root), tolerance=2))
    with pytest.raises(AssertionError):
        source.get(0)


def test_alternative_file_locations(root):
    expected = [record.key for record in read(root)]
    (root / "annotations").mkdir()
    (root / "valid.json").rename(root / "annotations/valid.json")
    (root / "images").mkdir()
    for folder in [path for path in root.iterdir() if path.name.startswith("val_")]:
        folder.rename(root / "images" / folder.name)
    assert [record.key for record in read(root)] == expected
    with pytest.raises(UserError, match=r"no annotations of sailvos, split train; .*train\.json.*download_sailvos\.sh"):
        read(root, split="train")
    content = json.loads((root / "annotations/valid.json").read_text())
    assert {"videos", "models"} <= content.keys()
