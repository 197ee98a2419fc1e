import json

import numpy as np
import pytest

from amodalseg.cli import main
from amodalseg.config.schema import BsdsAData
from amodalseg.data.open import open_source
from amodalseg.data.readers.bsds_a import read_bsds_a
from amodalseg.errors import UserError
from tests.worlds import bsds_a_world, edit_json
from tests.worlds.compare import held

FILE = "annotations/BSDS_amodal_test.json"


@pytest.fixture
def root(tmp_path):
    return bsds_a_world(tmp_path / "bsds_a")


def read(root, photos=True, **options):
    return read_bsds_a(BsdsAData(root=str(root), **{"split": "test", **options}), photos=photos)


def test_the_first_annotation_of_each_image_is_read(root, caplog):
    caplog.set_level("INFO", "amodalseg")
    records = read(root)
    assert [record.key for record in records] == [
        *(f"bsds_a/test/50/700-{index}" for index in range(3)), *(f"bsds_a/test/30/670-{index}" for index in range(3))
    ]  # fmt: skip
    assert {record.group["annotator"] for record in records} == {"person0"}
    said = caplog.text
    assert "the first annotation of each of 2 images is read, 4 of other annotators are left out" in said
    assert [record.category for record in records[:3]] == ["bear", "stone", "tree"]
    assert [record.extra.get("behind") for record in records[:3]] == [None, [1], [2]]
    # the first one in the file, whatever the ids
    edit_json(root / FILE, lambda content: content["annotations"].reverse())
    assert {record.group["annotator"] for record in read(root)} == {"person2"}


def test_annotators_are_never_merged(root, caplog):
    caplog.set_level("INFO", "amodalseg")
    records = read(root, annotator="all")
    assert len(records) == len({record.key for record in records}) == 16 and not caplog.text
    by_person = {}
    for record in records:
        by_person.setdefault((record.image_id, record.group["annotator"]), []).append(record)
    assert [len(by_person["50", f"person{person}"]) for person in range(3)] == [3, 3, 2]
    for objects in by_person.values():
        nearer = np.zeros(objects[0].modal.shape, bool)
        for record in objects:  # sorted by order in this world
            assert np.array_equal(record.modal, record.amodal & ~nearer), "only the same person's objects occlude"
            nearer |= record.amodal
    first, second = by_person["50", "person0"][0], by_person["50", "person1"][0]
    assert first.category == second.category and first.amodal.sum() < second.amodal.sum()
    assert by_person["50", "person1"][1].occluder_rle == second.amodal_rle
    assert [record.key for record in read(root)] == [r.key for r in records if r.group["annotator"] == "person0"]


@pytest.mark.parametrize("author", ["same", None, "gone"])
def test_annotators_without_distinct_names_are_kept_apart(root, author):
    def change(content):
        for entry in content["annotations"]:
            entry.update(author=author)
            if author == "gone":
                del entry["author"]

    edit_json(root / FILE, change)
    records = read(root, annotator="all")
    works = {(record.image_id, record.group["annotator"]) for record in records}
    assert len(works) == 6, "three opinions on each of two photos"
    assert {record.group["annotator"] for record in read(root)} == {None if author == "gone" else author}


def test_broken_annotations_of_other_annotators_are_ignored(root, capsys):
    edit_json(root / FILE, lambda content: content["annotations"][-1].update(regions=[7, {}, {"segmentation": ["x"]}]))
    assert main(["data", "check", "bsds_a", str(root), "--split", "test", "--subset"]) == 0
    assert "FAULT" not in capsys.readouterr().out
    assert main(["data", "check", "bsds_a", str(root), "--split", "test", "--subset", "annotator=all"]) == 1


def test_an_order_that_is_not_a_number_is_refused(root):
    records = [record for record in read(root, annotator="all") if record.object_id.startswith("650-")]
    assert [record.order for record in records] == [None, 2] and records[1].occluded.any()
    assert records[1].occluder_rle is None, "nobody knows what is in front"


def test_photos_are_found_in_the_folders_of_the_archive(root, tmp_path):
    records = read(root)
    assert records[0].image == root / "BSR/BSDS500/data/images/test/100007.jpg" and records[0].image.is_file()
    (root / "images").mkdir()
    (root / "BSR/BSDS500/data/images/test").rename(root / "images/test")
    assert read(root)[0].image == root / "images/test/100007.jpg"
    (root / "images/test").rename(tmp_path / "elsewhere")
    assert read(root, images=str(tmp_path / "elsewhere"))[0].image == tmp_path / "elsewhere/100007.jpg"
    with pytest.raises(UserError, match="no photos of bsds_a, split test"):
        read(root)
    bare = read(root, photos=False)
    assert [(r.key, r.amodal_rle) for r in bare] == [(r.key, r.amodal_rle) for r in records]
    assert read(root / FILE, photos=False)[0].amodal_rle == records[0].amodal_rle
    moved = (root / FILE).rename(tmp_path / "moved.json")
    assert held(read(root, photos=False, annotations=str(moved))) == held(bare)
    with pytest.raises(UserError, match=r"no annotations of bsds_a, split test.*archive of COCOA"):
        read(root)


def test_missing_and_broken_photos(root):
    path = read(root)[0].image
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"100007\.jpg.*1 of 2 photos are broken"):
        open_source(BsdsAData(root=str(root), split="test"))
    path.unlink()
    with pytest.raises(UserError, match=r"100007\.jpg \(1 of 2 photos are missing\)"):
        read(root)
    with pytest.warns(UserWarning, match="1 of 2 photos are missing"):
        assert {record.image_id for record in read(root, skip_broken=True)} == {"30"}


def test_stuff_and_invalid_options(root):
    edit_json(root / FILE, lambda content: content["annotations"][0]["regions"][0].update(isStuff=1))
    assert len(read(root, include_stuff=False)) == 5
    content = json.loads((root / FILE).read_text())
    for change, text in [
        (lambda c: c["annotations"][1].pop("regions"), "annotation number 2 lacks 'regions'"),
        (
            lambda c: c["annotations"][0]["regions"][1].update(segmentation=[1, 2, 3]),
            "annotation 700, region 1 has a mask",
        ),
        (lambda c: c["annotations"][0].update(image_id=7), r"annotation without image: .*\(annotation ids 700\)"),
        (lambda c: c["annotations"][1].update(id=700), "1 annotation ids occur more than once: 700"),
        (lambda c: c["annotations"][0]["regions"][0].update(occlude_rate="?"), "region 0: 'occlude_rate' must be"),
    ]:
        (root / FILE).write_text(json.dumps(content))
        edit_json(root / FILE, change)
        with pytest.raises(UserError, match=rf"BSDS_amodal_test\.json.*{text}"):
            read(root)
