import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from amodalseg import masks, read_dataset
from amodalseg.cli import main
from amodalseg.config.schema import CocoaData, CocoAmodalData, CocoData, ShardsData, SyntheticData
from amodalseg.data.images import load_image
from amodalseg.data.open import open_source
from amodalseg.data.pack.convert import MARK, write_coco_amodal
from amodalseg.data.pack.shard_writer import write_shards
from amodalseg.data.readers import read_coco_instances
from amodalseg.data.readers.coco_amodal import read_coco_amodal
from amodalseg.data.record_pictures import record_image
from amodalseg.data.source import RecordList
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, FilePart
from tests.worlds import WORLDS, coco_world, cocoa_world, edit_json, mp3d_world
from tests.worlds.compare import held


@pytest.fixture
def cocoa(tmp_path):
    root = cocoa_world(tmp_path / "cocoa")
    return open_source(CocoaData(root=str(root)))


def all_of(source):
    return [source.get(place) for place in range(len(source))]


def back(out, split="val", **options):
    return read_coco_amodal(CocoAmodalData(root=str(out), split=split, **options))


def test_all_fields_of_a_record_are_kept(cocoa, tmp_path):
    before = all_of(cocoa)
    before[1] = replace(
        before[1], unknown_rle=masks.encode(np.eye(before[1].height, before[1].width) > 0),
        flags=before[1].flags | {"crowd", "touches_border"}, category_id=7, category=None,
        group={"cluster": 3, "rank": None}, extra={"area": 3, "bbox": [1.5, 2, 3, 4], "note": "née"},
        raw_rate=0.1 + 0.2, whole_rgb=before[0].image,
    )  # fmt: skip
    before[2] = replace(
        before[2], gt_modal_rle=before[2].modal_rle, modal_rle=before[1].modal_rle, modal_source="pred:some",
        modal_score=0.25,
    )  # fmt: skip
    out = tmp_path / "out"
    assert write_coco_amodal(RecordList(before), out) == (2, 12)
    assert held(back(out)) == held(before)
    assert not (out / "images").exists() and {record.image.parent.name for record in back(out)} == {"val2014"}


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_records_of_every_data_set_are_read_back_equal(name, tmp_path):
    world = WORLDS[name](tmp_path / "data")
    options = dict(option.split("=", 1) for option in world.options)
    before = read_dataset(world.name, world.root, split=world.test, **options)
    write_coco_amodal(RecordList(before), tmp_path / "out")
    assert held(back(tmp_path / "out", world.test)) == held(before)


def test_pycocotools_opens_both_files(cocoa, tmp_path, capsys):
    write_coco_amodal(cocoa, tmp_path / "out")
    modal, amodal = (COCO(tmp_path / f"out/annotations/val_{kind}.json") for kind in ("modal", "amodal"))
    capsys.readouterr()
    for number, record in enumerate(all_of(cocoa), start=1):
        for tool, mask in ((modal, record.modal), (amodal, record.amodal)):
            entry = tool.anns[number]
            assert np.array_equal(tool.annToMask(entry), mask) and entry["area"] == mask.sum()
            x0, y0, x1, y1 = masks.box_xyxy(mask) or (0, 0, 0, 0)
            assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            assert tool.cats[entry["category_id"]]["name"] == record.category
            assert tool.imgs[entry["image_id"]]["file_name"] == record.image.name
            assert entry["image_id"] == int(record.image_id), "a number stays the image's id"
            assert isinstance(entry["segmentation"]["counts"], str)
    assert modal.imgs == amodal.imgs and modal.cats == amodal.cats
    assert not any("amodalseg" in entry for entry in modal.anns.values())


def test_copied_photos_are_the_same_bytes_and_the_folder_can_move(cocoa, tmp_path):
    write_coco_amodal(cocoa, tmp_path / "out", copy_photos=True)
    (tmp_path / "out").rename(tmp_path / "moved")
    records = back(tmp_path / "moved")
    for record, other in zip(all_of(cocoa), records, strict=True):
        assert other.image == tmp_path / "moved/images/val" / record.image.name
        assert other.image.read_bytes() == record.image.read_bytes()
        assert held(replace(other, image=record.image)) == held(record)


def test_linked_photos_are_found_when_both_folders_are_moved_together(cocoa, tmp_path):
    write_coco_amodal(cocoa, tmp_path / "out")
    both = tmp_path / "both"
    both.mkdir()
    for name in ("cocoa", "out"):
        (tmp_path / name).rename(both / name)
    assert {record.image.parent for record in back(both / "out")} == {both / "cocoa/val2014"}


def test_drawn_photos_and_whole_pictures_are_written(tmp_path):
    source = open_source(SyntheticData(num_objects=3, size=64, split="train", fresh=True))
    write_coco_amodal(source, tmp_path / "out")
    for record, other in zip(all_of(source), back(tmp_path / "out", "train"), strict=True):
        assert np.array_equal(record_image(other), record.image)
        assert np.array_equal(load_image(other.whole_rgb), record.whole_rgb)
        assert replace(other, image=record.image, whole_rgb=record.whole_rgb).key == record.key
        for name in ("modal_rle", "amodal_rle", "occluder_rle", "order", "flags", "category", "category_id"):
            assert getattr(other, name) == getattr(record, name), name
    assert len(list((tmp_path / "out/images/train/drawn").iterdir())) == 3


def test_objects_of_one_photo_share_an_image_and_composites_do_not(tmp_path):
    annotations, images = coco_world(tmp_path / "coco", 1)
    arguments = ["coco_occlude", f"annotations=[{annotations}]", f"images=[{images}]", "num_objects=3"]
    assert main(["data", "convert", *arguments, "--out", str(tmp_path / "out")]) == 0
    records = back(tmp_path / "out", "train")
    assert len({record.image for record in records}) == 3 and len({record.image_id for record in records}) < 3
    content = json.loads((tmp_path / "out/annotations/train_modal.json").read_text())
    assert len({entry["id"] for entry in content["images"]}) == 3
    mask = records[0].modal_rle
    pixels = record_image(records[0])
    same = [AmodalRecord("a", "b", "c", str(i), pixels, mask, mask) for i in range(2)]
    assert write_coco_amodal(RecordList(same), tmp_path / "same") == (1, 2)


def test_photos_in_tar_files_keep_their_bytes(cocoa, tmp_path):
    first = cocoa.get(0)
    data = first.image.read_bytes()
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        info = tarfile.TarInfo("000.jpg")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with tarfile.open(tmp_path / "some.tar") as tar:
        start = tar.getmembers()[0].offset_data
    part = FilePart(tmp_path / "some.tar", start, len(data), "000.jpg")
    records = [replace(first, image=part), replace(cocoa.get(11))]
    write_coco_amodal(RecordList(records), tmp_path / "out")
    packed, loose = back(tmp_path / "out")
    assert packed.image.read_bytes() == data and packed.image.suffix == ".jpg"
    assert loose.image == records[1].image, "photos in two places have a common folder"
    write_coco_amodal(RecordList(records), tmp_path / "copied", copy_photos=True)
    packed, loose = back(tmp_path / "copied")
    assert loose.image.is_relative_to(tmp_path / "copied") and packed.image.read_bytes() == data


def test_shards_convert_like_the_data_set_they_contain(cocoa, tmp_path):
    write_shards(cocoa, tmp_path / "shards", about={}, size=10**6, whole=True, skip_broken=False)
    source = open_source(ShardsData(root=str(tmp_path / "shards"), split="val"))
    write_coco_amodal(source, tmp_path / "out")
    for record, other in zip(all_of(cocoa), back(tmp_path / "out"), strict=True):
        assert held(replace(other, image=record.image, extra=record.extra)) == held(record)
        assert other.image.read_bytes() == record.image.read_bytes()


def test_several_splits_share_a_folder_and_nothing_is_overwritten(cocoa, tmp_path):
    out = tmp_path / "out"
    write_coco_amodal(cocoa, out)
    write_coco_amodal(RecordList([replace(record, split="train") for record in all_of(cocoa)]), out)
    assert {record.split for record in back(out, "train")} == {"train"} and len(back(out)) == 12
    with pytest.raises(UserError, match=r"val_modal\.json exists; remove it"):
        write_coco_amodal(cocoa, out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a converted data set"):
        write_coco_amodal(cocoa, foreign)
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is a file"):
        write_coco_amodal(cocoa, foreign / "notes.txt")
    (tmp_path / "empty").mkdir()
    write_coco_amodal(cocoa, tmp_path / "empty")


def test_failed_conversions_leave_no_files(cocoa, tmp_path):
    records = all_of(cocoa)
    modal_only = replace(records[5], amodal_rle=None)
    with pytest.raises(UserError, match=f"{records[5].key} has no amodal mask"):
        write_coco_amodal(RecordList([*records[:5], modal_only]), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [MARK]
    odd = replace(records[5], extra={"what": object()})
    with pytest.raises(UserError, match=f"{records[5].key} has a value that json cannot store: a object"):
        write_coco_amodal(RecordList([*records[:5], odd]), tmp_path / "out")
    records[3].image.unlink()
    with pytest.raises(UserError, match="cannot read the image"):
        write_coco_amodal(cocoa, tmp_path / "out", copy_photos=True)
    assert not list((tmp_path / "out").rglob("*.json")) and not list((tmp_path / "out").rglob("*.part"))
    with pytest.raises(UserError, match="no object"):
        write_coco_amodal(RecordList([]), tmp_path / "out")
    write_coco_amodal(RecordList(records[6:9]), tmp_path / "out", copy_photos=True)  # the folder can be used again
    assert len(back(tmp_path / "out")) == 3


def test_sets_without_amodal_masks_are_refused(tmp_path, capsys):
    annotations, images = coco_world(tmp_path)
    assert open_source(CocoData(annotations=[str(annotations)], images=[str(images)])).get(0).amodal_rle is None
    arguments = ["coco", f"annotations=[{annotations}]", f"images=[{images}]"]
    assert main(["data", "convert", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert "visible pixels only" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert read_coco_instances(annotations, images, "train")


def test_flags_are_recomputed_from_corrected_masks(cocoa, tmp_path):
    out = tmp_path / "out"
    write_coco_amodal(cocoa, out)
    amodal = json.loads((out / "annotations/val_amodal.json").read_text())["annotations"][1]["segmentation"]
    edit_json(out / "annotations/val_modal.json", lambda c: c["annotations"][1].update(segmentation=amodal))
    assert "fully_visible" not in cocoa.get(1).flags and "fully_visible" in back(out)[1].flags


def test_annotations_added_by_a_tool_keep_the_image_ids_of_converted_ones(tmp_path):
    source = open_source(SyntheticData(num_objects=1, size=64, split="val"))
    write_coco_amodal(source, tmp_path / "out")
    for kind in ("modal", "amodal"):
        edit_json(tmp_path / f"out/annotations/val_{kind}.json",
                  lambda c: c["annotations"].append({**c["annotations"][0], "id": 9, "amodalseg": {}}))  # fmt: skip
    first, added = back(tmp_path / "out")
    assert added.image_id == first.image_id == source.get(0).image_id and added.object_id == "9"


def test_the_command(tmp_path, capsys):
    root = cocoa_world(tmp_path / "cocoa")
    out = tmp_path / "out"
    assert main(["data", "convert", "cocoa", str(root), "include_stuff=false", "--out", str(out), "--split", "val",
                 "--copy-photos"]) == 0  # fmt: skip
    assert "10 objects in 2 photos" in capsys.readouterr().out
    records = read_dataset("coco_amodal", out)
    assert [record.key for record in records] == [r.key for r in read_dataset("cocoa", root, include_stuff=False)]
    assert main(["data", "convert", "cocoa", str(root), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    mp3d = mp3d_world(tmp_path / "mp3d")
    (pickled,) = mp3d.glob("*.pkl")
    expected = read_dataset("mp3d", mp3d)
    assert main(["data", "convert", "mp3d-pickle", str(pickled), "--out", str(pickled.with_suffix(".json"))]) == 0
    pickled.unlink()
    assert held(read_dataset("mp3d", mp3d)) == held(expected)
    capsys.readouterr()
    assert main(["data", "convert", "mp3d-pickle", "a", "b=c", "--out", str(out)]) == 2
    assert "takes one argument" in capsys.readouterr().err
    assert held(pickle.loads(pickle.dumps(records))) == held(records) and Path(records[0].image).is_file()
