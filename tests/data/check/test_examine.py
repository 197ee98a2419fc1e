"""``amodalseg data check``: every kind of fault is found in isolation and located."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.cli import main
from amodalseg.config.load import build
from amodalseg.config.schema import CocoaData, DataOnly, SyntheticData
from amodalseg.data.check import known_sets as cards
from amodalseg.data.check.card import Count, Part
from amodalseg.data.check.examine import check_dataset, describe, examine
from amodalseg.data.check.finding import KINDS, NOTES_ONLY, finding
from amodalseg.data.check.known_sets import CARDS
from amodalseg.errors import UserError
from tests.worlds import WORLDS, compressed, disc, edit_json, photo, pix2gestalt_world, write_photo

COCOA = CARDS["cocoa"]
SIZE = 90, 120
"""Of the first photo of the COCOA world, whose regions are ``1000/40-*``."""


@pytest.fixture
def cocoa(tmp_path):
    return WORLDS["cocoa"](tmp_path / "cocoa").root


def config_of(world, **options):
    given = dict(option.split("=", 1) for option in world.options) | options
    content = {"name": world.name, "root": str(world.root), **given}
    return build(DataOnly, [("test", {"data": content})]).data


def faults(findings):
    return [item for item in findings if item.severity == "fault"]


def check(capsys, root, *arguments, name="cocoa"):
    """Run ``data check``. Returns: exit code, printed text."""
    code = main(["data", "check", name, str(root), *arguments])
    return code, capsys.readouterr().out


def annotations(root, split="val"):
    return root / f"annotations/COCO_amodal_{split}2014.json"


def change(root, edit, split="val"):
    """Edit the regions of annotation 40, whose photo has the image id 1000."""

    def regions(content):
        edit(next(entry for entry in content["annotations"] if entry["id"] == 40)["regions"])

    edit_json(annotations(root, split), regions)


def plant_inside(root):
    def edit(regions):
        visible = masks.decode(masks.from_segmentation(regions[1]["visible_mask"], *SIZE))
        regions[1]["visible_mask"] = compressed(visible | disc(*SIZE, 100, 75, 8, 8))

    change(root, edit)


def plant_rate(root):
    change(root, lambda regions: regions[1].update(occlude_rate=regions[1]["occlude_rate"] + 0.3))


def plant_area(root):
    change(root, lambda regions: regions[0].update(area=2 * regions[0]["area"]))


def plant_size(root):
    write_photo(root / "val2014/COCO_val2014_000000001000.jpg", photo(np.random.default_rng(0), 120, 90))


def plant_ids(root):
    edit_json(annotations(root), lambda content: content["annotations"].append(content["annotations"][0]))


def plant_duplicate(root):
    change(root, lambda regions: regions.append({**regions[0], "order": 8}))


def plant_overlap(root):
    """Copy a photo of val to train, under the same name."""
    name = "COCO_val2014_000000001000.jpg"
    shutil.copy(root / "val2014" / name, root / "train2014" / name)

    def rename(content):
        next(image for image in content["images"] if image["id"] == 1000)["file_name"] = name

    edit_json(annotations(root, "train"), rename)


def plant_empty(root):
    change(root, lambda regions: regions[2].update(segmentation=[10, 10, 10, 10, 10, 10], area=0))


def plant_nan(root):
    change(root, lambda regions: regions[2]["segmentation"].__setitem__(3, float("nan")))


def plant_damaged_run_lengths(root):
    def edit(regions):
        text = regions[1]["visible_mask"]["counts"]
        regions[1]["visible_mask"]["counts"] = text[: len(text) // 2]

    change(root, edit)


def plant_lost_image(root):
    edit_json(annotations(root), lambda content: content["annotations"][0].update(image_id=5))


def plant_missing_photo(root):
    (root / "val2014/COCO_val2014_000000001000.jpg").unlink()


def plant_broken_photo(root):
    (root / "val2014/COCO_val2014_000000001000.jpg").write_bytes(b"no photo")


PLANTS = [
    ("files", lambda root: annotations(root).unlink(), "annotations/COCO_amodal_val2014.json"),
    ("files", lambda root: shutil.rmtree(root / "val2014"), "val2014"),
    ("inside", plant_inside, "cocoa/val/1000/40-1"),
    ("rates", plant_rate, "cocoa/val/1000/40-1"),
    ("areas", plant_area, "cocoa/val/1000/40-0"),
    ("sizes", plant_size, "COCO_val2014_000000001000.jpg"),
    ("ids", plant_ids, "COCO_amodal_val2014.json"),
    ("duplicates", plant_duplicate, "cocoa/val/1000/40-6"),
    ("overlap", plant_overlap, "COCO_val2014_000000001000.jpg"),
    ("empty", plant_empty, "cocoa/val/1000/40-2"),
    ("unreadable", plant_nan, "annotation 40, region 2"),
    ("unreadable", plant_damaged_run_lengths, "annotation 40, region 1"),
    ("photos", plant_lost_image, "41"),
    ("photos", plant_missing_photo, "COCO_val2014_000000001000.jpg"),
    ("photos", plant_broken_photo, "COCO_val2014_000000001000.jpg"),
]


@pytest.mark.parametrize(("kind", "plant", "where"), PLANTS, ids=[f"{p[0]}-{i}" for i, p in enumerate(PLANTS)])
def test_each_planted_fault_is_the_only_one_found_and_is_located(cocoa, capsys, kind, plant, where):
    code, text = check(capsys, cocoa, "--subset", "--split", "val")
    assert code == 0 and "verdict: nothing that would distort a score" in text
    plant(cocoa)
    code, text = check(capsys, cocoa, "--subset", "--split", "val")
    assert code == 1
    found = faults(check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True))
    assert [item.kind for item in found] == [kind]
    assert any(where in place for place in found[0].where) or where in found[0].text
    assert f"FAULT  {kind}" in text and where in text
    assert text.splitlines()[-1].startswith(f"verdict: 1 fault ({kind}) would distort scores")


def test_planted_faults_cover_all_kinds_of_faults():
    assert {kind for kind, *_ in PLANTS} | {"counts"} == set(KINDS) - set(NOTES_ONLY)


def test_counts_are_compared_with_published_ones_except_for_subsets(cocoa, capsys):
    code, text = check(capsys, cocoa, "--split", "val")
    assert code == 1 and "images 2, published 1,323 [P]" in text and "objects 12, published 12,753 [P]" in text
    code, text = check(capsys, cocoa, "--split", "val", "--subset")
    assert code == 0 and "published 12,753 [P]" in text


def cocoa_card(monkeypatch, *counts, **rest):
    parts = {name: replace(part, counts=counts) for name, part in COCOA.parts.items()}
    monkeypatch.setitem(cards.CARDS, "cocoa", replace(COCOA, parts=parts, **rest))


def test_severity_of_wrong_counts_depends_on_their_evidence(cocoa, monkeypatch):
    def severities(*counts, **rest):
        cocoa_card(monkeypatch, *counts, **rest)
        found = check_dataset(CocoaData(root=str(cocoa)))
        return [item.severity for item in found if item.kind == "counts" and "no published" not in item.text]

    assert severities(Count("images", 2, "P"), Count("objects", 12, "D")) == 4 * ["fine"]
    assert severities(Count("objects", 13, "C")) == 2 * ["fault"]
    assert severities(Count("objects", 13, "U")) == 2 * ["note"]
    assert severities(Count("objects", 13, "P", about=True)) == 2 * ["note"]
    assert severities(Count("objects", 13, "P", at_most=True)) == 2 * ["note"]
    assert severities(Count("objects", 11, "P", at_most=True)) == 2 * ["fault"]
    # a total is compared only if every split of the card is present
    parts = {name: Part(COCOA.parts[name].annotations, ()) for name in ("train", "val")}
    monkeypatch.setitem(cards.CARDS, "cocoa", replace(COCOA, parts=parts, total=(Count("objects", 25, "D"),)))
    assert [item.text for item in faults(check_dataset(CocoaData(root=str(cocoa))))] == [
        "objects 24, published 25 [D] (from a README or data card)"
    ]


def test_images_without_objects_count_as_images(cocoa, monkeypatch):
    cocoa_card(monkeypatch, Count("images", 3, "P"))
    edit_json(annotations(cocoa), lambda content: content["images"].append({"id": 7, "file_name": "empty.jpg"}))
    found = check_dataset(CocoaData(root=str(cocoa)), ["val"])
    assert [item.text for item in found if item.kind == "counts" and item.severity == "fine"] == [
        "images listed (2 of them with objects) 3, published 3 [P] (printed in a paper)"
    ]


def test_with_options_that_select_objects_counts_are_only_a_note(cocoa):
    found = check_dataset(CocoaData(root=str(cocoa), include_stuff=False), ["val"])
    counts = [item for item in found if item.kind == "counts"]
    assert {item.severity for item in counts} == {"note"} and "data.include_stuff=False" in counts[0].text


def test_known_errors_of_the_published_files_are_notes(cocoa, monkeypatch):
    plant_rate(cocoa)
    cocoa_card(monkeypatch, known={"rates": "rates were rounded"})
    (found,) = [i for i in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True) if i.kind == "rates"]
    assert found.severity == "note" and found.text.endswith("known of the published files: rates were rounded")


def test_rare_and_small_mistakes_are_notes(cocoa):
    """One object in a thousand cannot change a mean by 0.1 points, and neither can a pixel of the outline."""

    def edit(regions):
        regions[1]["area"] += 3  # less than 1 %
        regions[3]["occlude_rate"] = 0.995

    change(cocoa, edit)
    assert not faults(check_dataset(CocoaData(root=str(cocoa)), subset=True))

    def outline(regions):
        visible = masks.decode(masks.from_segmentation(regions[1]["visible_mask"], *SIZE))
        amodal = masks.decode(masks.from_segmentation(regions[1]["segmentation"], *SIZE))
        free = np.argwhere(~amodal)
        visible[tuple(free[0])] = True
        regions[1]["visible_mask"] = compressed(visible)

    change(cocoa, outline)
    found = {item.kind: item for item in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True)}
    assert found["inside"].severity == "note" and "11 of 12" in found["inside"].text
    change(cocoa, lambda regions: regions.extend({**regions[0], "order": 7 + i} for i in range(1, 3)))
    many = {item.kind: item for item in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True)}
    assert many["duplicates"].severity == "fault" and many["duplicates"].count == 2


def test_a_wrong_size_in_the_json_only_and_a_scaled_photo_are_notes(cocoa):
    def edit(content):
        next(image for image in content["images"] if image["id"] == 1000)["height"] = 91

    edit_json(annotations(cocoa), edit)
    found = [i for i in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True) if i.kind == "sizes"]
    assert [item.severity for item in found] == ["note"] and "says otherwise" in found[0].where[0]
    write_photo(cocoa / "val2014/COCO_val2014_000000001000.jpg", photo(np.random.default_rng(0), 180, 240))
    found = [i for i in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True) if i.kind == "sizes"]
    assert [item.severity for item in found] == ["note"] and "masks 120x90, photo 240x180" in found[0].where[0]


def test_existing_splits_are_checked_and_missing_ones_named(cocoa, capsys):
    _, text = check(capsys, cocoa, "--subset")
    lines = text.splitlines()
    assert "train" in lines and "val" in lines and "not there, not checked: test" in text
    assert "train and val share no photo" in text and text.count("modal inside amodal: 12 of 12") == 2
    _, text = check(capsys, cocoa, "--subset", "split=val")
    assert "train" not in text.splitlines() and "train and val share no photo" in text


def test_equal_file_names_in_two_splits_are_an_overlap_only_with_equal_photos_or_masks(cocoa, monkeypatch):
    cocoa_card(monkeypatch, names_restart=True, compare_masks=True)
    plant_overlap(cocoa)
    name = "COCO_val2014_000000001000.jpg"
    config = CocoaData(root=str(cocoa))
    assert [item.kind for item in faults(check_dataset(config, subset=True))] == ["overlap"]
    write_photo(cocoa / "train2014" / name, photo(np.random.default_rng(5), *SIZE))
    # both splits are drawn with the same shapes, so the masks still show a copy
    assert [item.kind for item in faults(check_dataset(config, subset=True))] == ["overlap"]
    cocoa_card(monkeypatch, names_restart=True)
    assert not faults(check_dataset(config, subset=True))
    cocoa_card(monkeypatch, names_restart=True, compare_masks=True)

    def move(content):
        for entry in content["annotations"]:
            for region in entry["regions"]:
                region.pop("visible_mask", None), region.pop("area")
                region["occlude_rate"] = 0
                region["segmentation"] = [value * 0.9 for value in region["segmentation"]]

    edit_json(annotations(cocoa, "train"), move)
    (found,) = [item for item in check_dataset(config, subset=True) if item.kind == "overlap"]
    assert found.severity == "fine" and "1 names occur in both, for different photos" in found.text


def test_a_missing_data_set_is_reported_with_its_source_and_licence(tmp_path, capsys):
    for name in ("cocoa", "kins", "d2sa", "pix2gestalt"):
        code, text = check(capsys, tmp_path, name=name)
        text = " ".join(text.split())
        assert code == 1 and CARDS[name].licence in text and CARDS[name].get in text
        assert str(tmp_path / next(iter(CARDS[name].parts.values())).annotations[0][0]) in text


def test_drawn_records_are_reproducible(cocoa, tmp_path, capsys):
    import cv2

    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for picture in (first, second):
        code, text = check(capsys, cocoa, "--subset", "--split", "val", "--draw", "5", str(picture))
        assert code == 0 and f"5 objects: {picture}" in text
    assert first.read_bytes() == second.read_bytes()
    assert cv2.imread(str(first)).shape[1] > 6 * 160
    plant_size(cocoa)
    code, text = check(capsys, cocoa, "--subset", "--split", "val", "--draw", "12", str(first))
    assert code == 1 and "12 objects" in text  # photos of a different size are drawn resized, not refused


def test_flagged_objects_are_drawn_first_then_by_occlusion_rate(cocoa):
    plant_inside(cocoa)
    chosen = examine(CocoaData(root=str(cocoa)), ["val"], subset=True, draw=8).pictures["val"]
    assert len(chosen) == 8 and {"modal_outside_amodal", "empty_modal"} & chosen[0].flags
    rates = [record.occlusion_rate for record in chosen[2:]]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "arguments",
    [["--draw", "3", "out.jpg"], ["--draw", "0", "out.png"], ["--split", "nonsense"], ["colour=red"]],
)
def test_wrong_arguments_are_one_line(cocoa, capsys, arguments):
    assert main(["data", "check", "cocoa", str(cocoa), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


def test_only_published_sets_are_checked():
    with pytest.raises(UserError, match="data check takes a published data set: cocoa, "):
        check_dataset(SyntheticData())


def test_a_bare_record_is_checked_without_counts(cocoa, tmp_path, capsys):
    record = json.loads(annotations(cocoa).read_text())["annotations"][0]
    file = cocoa / "val2014/one.json"
    file.write_text(json.dumps(record))
    code, text = check(capsys, file)
    assert code == 0 and "modal inside amodal: 6 of 6" in text


def test_faults_are_found_whatever_options_would_repair_or_skip(cocoa):
    plant_inside(cocoa)
    found = faults(check_dataset(CocoaData(root=str(cocoa), fix_subset="union", num_objects=1), ["val"], subset=True))
    assert [item.kind for item in found] == ["inside"]


FLAT = ["cocoa_cls", "d2sa"]


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize(
    "kind", ["files", "inside", "rates", "areas", "ids", "duplicates", "empty", "unreadable", "photos"]
)
def test_faults_are_found_in_flat_files(tmp_path, capsys, name, kind):
    world = WORLDS[name](tmp_path / "data")
    config = config_of(world)
    assert not faults(check_dataset(config, subset=True))
    source = world.root / cards.expected_parts(config)[world.test].annotations[0][0]
    content = json.loads(source.read_text())
    entries = content["annotations"]
    entry = max(entries, key=lambda item: item["occlude_rate"] * (item["occlude_rate"] < 1))
    mask = masks.decode(masks.from_segmentation(entry["segmentation"], 1, 1))
    if kind == "files":
        source.unlink()
    elif kind == "inside":
        visible = masks.decode(masks.from_segmentation(entry["visible_mask"], 1, 1))
        entry["visible_mask"] = compressed(visible | (disc(*mask.shape, 60, 45, 60, 45) & ~mask))
    elif kind == "rates":
        entry["occlude_rate"] += 0.2
    elif kind == "areas":
        entry["area"] *= 1.5
    elif kind == "ids":
        entries.append(entry)
    elif kind == "duplicates":
        entries.append({**entry, "id": 10**6})
    elif kind == "empty":
        entry.update(segmentation=compressed(mask & False), visible_mask=compressed(mask & False))
    elif kind == "unreadable":
        entry["visible_mask"]["counts"] = entry["visible_mask"]["counts"][:-2]
    elif kind == "photos":
        entry["image_id"] = 10**6
    if kind != "files":
        source.write_text(json.dumps(content))
    code, text = check(capsys, world.root, "--subset", "--split", world.test, name=name)
    found = faults(check_dataset(config, [world.test], subset=True))
    assert code == 1 and [item.kind for item in found] == [kind]
    where = {"files": source.name, "duplicates": "1000000"}.get(kind, str(entry["id"]))
    assert where in " ".join([found[0].text, *found[0].where]) and where in text


def test_an_object_refused_by_the_reader_ends_its_split_unless_it_can_be_skipped(cocoa, tmp_path):
    plant_nan(cocoa)
    found = check_dataset(CocoaData(root=str(cocoa), skip_broken=True), ["val"], subset=True)
    assert [item.text for item in found if item.kind == "reader"] == ["the rest of this split could not be checked"]
    world = WORLDS["d2sa"](tmp_path / "data")
    source = world.root / "d2s_amodal_annotations_v1/D2S_amodal_validation.json"
    edit_json(source, lambda content: content["annotations"][0]["visible_mask"].update(counts="0"))
    found = check_dataset(config_of(world), ["val"], subset=True)
    assert [item.kind for item in faults(found)] == ["unreadable"]
    assert "modal inside amodal: 11 of 11" in describe(found) and "1 of 12 objects are left out" in describe(found)


def test_polygons_that_leave_their_image_are_a_note(tmp_path):
    world = WORLDS["kins"](tmp_path / "data")
    config = config_of(world)

    def edit(content):
        content["annotations"][0]["a_segm"][0][0] = -3

    edit_json(world.root / "update_test_2020.json", edit)
    notes = [item.text for item in check_dataset(config, ["test"], subset=True) if item.kind == "reader"]
    assert len(notes) == 1 and "leave their image" in notes[0]


def test_polygons_that_leave_their_image_are_a_note_in_nested_files(cocoa):
    change(cocoa, lambda regions: regions[5]["segmentation"].__setitem__(0, -2.5))
    (note,) = [i for i in check_dataset(CocoaData(root=str(cocoa)), ["val"], subset=True) if i.kind == "reader"]
    assert note.severity == "note" and "1 of 12 polygons leave their image" in note.text
    assert note.where == ("COCO_amodal_val2014.json: annotation 40, region 5: by 2.5 pixels",)


def test_identical_train_and_test_files_of_kins_are_a_fault(tmp_path):
    world = WORLDS["kins"](tmp_path / "data")
    shutil.copy(world.root / "update_test_2020.json", world.root / "update_train_2020.json")
    found = faults(check_dataset(config_of(world), ["test"], subset=True))
    assert [item.kind for item in found] == ["overlap"]


@pytest.mark.parametrize("name", sorted(set(WORLDS) - {"pix2gestalt"}))
def test_no_faults_in_clean_worlds(name, tmp_path):
    world = WORLDS[name](tmp_path / "data")
    found = check_dataset(config_of(world), subset=True)
    assert not faults(found), describe(faults(found))
    assert {world.train, world.test} <= {item.split for item in found}
    fine = {item.kind for item in found if item.severity == "fine"}
    assert {"files", "inside", "ids", "duplicates", "empty", "photos", "sizes", "overlap"} <= fine


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return pix2gestalt_world(tmp_path_factory.mktemp("pictures") / "data", 101)  # 99 and 2 in val


@pytest.mark.parametrize("kind", ["lacking", "size", "grey", "outside"])
def test_pix2gestalt_files(pictures, tmp_path, kind, capsys):
    import cv2

    root = tmp_path / "data"
    shutil.copytree(pictures, root)
    path = sorted((root / "visible_object_mask").glob("*.png"))[-1]
    name = path.name.removesuffix("_visible_mask.png")
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if kind == "lacking":
        path.unlink()
    elif kind == "size":
        cv2.imwrite(str(path), cv2.resize(mask, (128, 128)))
    elif kind == "grey":
        cv2.imwrite(str(path), np.where(mask > 0, np.uint8(200), mask))
    else:
        mask[:60] = 255
        cv2.imwrite(str(path), mask)
    code, text = check(capsys, root, "--subset", "--split", "val", name="pix2gestalt")
    assert code == int(kind in ("size", "outside"))
    expected = {
        "lacking": "1 in visible_object_mask", "size": "FAULT sizes", "outside": "FAULT inside",
        "grey": "1 of 4 mask files are not black and white",
    }  # fmt: skip
    assert expected[kind] in " ".join(text.split()) and (kind == "lacking" or name in text)


def test_of_many_files_a_fixed_sample_is_opened_and_reported(pictures, monkeypatch):
    from amodalseg.data.check import examine as module

    config = build(DataOnly, [("test", {"data": {"name": "pix2gestalt", "root": str(pictures)}})]).data
    monkeypatch.setattr(module, "SAMPLE", 20)
    assert not faults(check_dataset(config, subset=True))
    found = check_dataset(config, ["train"], subset=True)
    assert "modal inside amodal: 20 of 20" in describe(found) and "a fixed sample of 20 of 99" in describe(found)
    assert "modal inside amodal: 99 of 99" in describe(check_dataset(config, ["train"], subset=True, every=True))


def test_a_finding_prints_its_first_locations_and_counts_the_rest():
    item = finding("empty", "fault", "val", "8 of 9", [f"place {i}" for i in range(8)])
    text = describe([item, finding("boxes", "fault", "val", "one")])
    assert "place 4" in text and "place 5" not in text and "... and 3 more" in text
    assert text.endswith("verdict: 1 fault (empty) would distort scores; 1 note")  # boxes cannot distort a score


@pytest.mark.parametrize("content", [[], [{"id": 1, "image_id": 2, "url": "u/x.jpg", "regions": []}]])
def test_a_list_of_bare_records_instead_of_a_split(cocoa, content, capsys):
    annotations(cocoa).write_text(json.dumps(content))
    code, text = check(capsys, cocoa, "--split", "val")
    assert code == 1 and "images 0, published 1,323" in text
