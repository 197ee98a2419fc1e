import json
import pickle
import shutil

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import FishBowlData
from amodalseg.data.readers.fishbowl import read_fishbowl
from amodalseg.errors import UserError
from tests.worlds import compressed, edit_json, fishbowl_world
from tests.worlds.compare import held
from tests.worlds.fishbowl import HEIGHT, LENGTH, TYPES, WIDTH, fishbowl_masks, prepare

SEEN = "test_data/test/00001/objects.json"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fishbowl")
    return {form: fishbowl_world(folder / form, prepared=form == "prepared") for form in ("raw", "prepared")}


@pytest.fixture
def raw(drawn, tmp_path):
    return shutil.copytree(drawn["raw"], tmp_path / "raw")


@pytest.fixture
def prepared(drawn, tmp_path):
    return shutil.copytree(drawn["prepared"], tmp_path / "prepared")


def read(root, photos=True, **options):
    return read_fishbowl(FishBowlData(root=str(root), **options), photos=photos)


def change(root, edit):
    path = root / "test_data/test_data.pkl"
    content = pickle.loads(path.read_bytes())
    edit(content)
    path.write_bytes(pickle.dumps(content, 3))


def content_of(records):
    return {record.key: (record.modal_rle, record.amodal_rle, record.category, record.group) for record in records}


def test_the_raw_form_joins_videos_and_re_renders_by_id(drawn, caplog):
    caplog.set_level("INFO", "amodalseg")
    records = read(drawn["raw"])
    found = {record.key: record for record in records}
    assert len(found) == len(records)
    expected = 0
    for video in range(2):
        for fish, (amodal, modal) in fishbowl_masks(video).items():
            for frame in range(LENGTH):
                if fish == 20 or not (amodal[frame].any() or modal[frame].any()):
                    continue
                record, expected = found[f"fishbowl/test/{video:05d}-{frame}/{fish}"], expected + 1
                assert np.array_equal(record.amodal, amodal[frame]) and np.array_equal(record.modal, modal[frame])
                assert (record.height, record.width) == (HEIGHT, WIDTH)
                assert record.image == drawn["raw"] / f"test_data/test_frames/{video:05d}/{frame:05d}.png"
                assert record.image.is_file() and record.raw_rate is None
                assert record.group == {"video": f"{video:05d}", "frame": frame, "track": str(fish)}
                assert (record.category, record.category_id) == (TYPES[fish], fish % 4)
    assert expected == len(records)
    hidden = [record for record in records if "empty_modal" in record.flags]
    assert hidden and {record.group["track"] for record in hidden} == {"3"}
    assert "2 fish are rendered alone but hardly visible" in caplog.text


def test_the_prepared_form(drawn):
    records = read(drawn["prepared"])
    content = pickle.loads((drawn["prepared"] / "test_data/test_data.pkl").read_bytes())
    assert len(records) == sum(map(len, content.values())) > 30
    keys = [(r.group["video"], int(r.group["track"]), r.group["frame"]) for r in records]
    assert keys == sorted(keys), "whatever the order of the file"
    for record in records:
        stored = content[f"{record.group['video']}_{record.group['track']}"][record.group["frame"]]
        assert np.array_equal(record.amodal, masks.decode(stored["FM"][0]))
        assert np.array_equal(record.modal, masks.decode(stored["VM"][0]))
        assert type(record.raw_rate) is float and record.raw_rate == stored["OCC_R"]
        assert record.raw_rate == pytest.approx(record.occlusion_rate)
        assert (record.category, record.category_id) == (stored["fish_type"], None)
        for key, mask in (("bbox", record.amodal), ("modal_bbox", record.modal)):
            x0, y0, x1, y1 = masks.box_xyxy(mask)
            assert record.extra[key] == [x0, y0, x1 - x0, y1 - y0], "the file has rows first, and inclusive ends"
        assert record.image.is_file()


def test_the_savos_subset_is_the_same_in_both_forms(drawn):
    from_raw, from_prepared = read(drawn["raw"], subset="savos"), read(drawn["prepared"], subset="savos")
    assert content_of(from_raw) == content_of(from_prepared)
    expected = set()
    for video in range(2):
        for fish, (amodal, modal) in fishbowl_masks(video).items():
            kept = sorted(prepare(amodal, modal, TYPES[fish]))[1:-1]
            expected |= {f"fishbowl/test/{video:05d}-{frame}/{fish}" for frame in kept}
    assert {record.key for record in from_raw} == expected and len(expected) > 20
    everything = {record.key for record in read(drawn["raw"])}
    assert expected < everything
    tracks = {record.group["track"] for record in from_raw}
    assert "5" not in tracks and "12" not in tracks, "too small, and too close to the border"


def test_tracks_without_partial_occlusion_are_not_in_the_savos_subset(prepared):
    before = {record.group["track"] for record in read(prepared, subset="savos")}

    def uncover(content):
        for frame in content["00000_3"].values():
            frame["VM"] = frame["FM"]

    change(prepared, uncover)
    after = [record for record in read(prepared, subset="savos") if record.group["video"] == "00000"]
    assert "3" in before and "3" not in {record.group["track"] for record in after}


def test_the_form_is_detected_or_given(raw, prepared, tmp_path):
    both = prepared / "test_data"
    for name in ("test", "test_objects"):
        shutil.copytree(raw / "test_data" / name, both / name)
    assert content_of(read(prepared)) == content_of(read(prepared, form="prepared"))
    assert content_of(read(prepared, form="raw")) == content_of(read(raw))
    moved = (both / "test_data.pkl").rename(tmp_path / "moved.pkl")
    assert content_of(read(prepared)) == content_of(read(raw))
    assert content_of(read(prepared, annotations=str(moved), form="prepared")) == content_of(
        read(raw, annotations=str(moved), images=str(raw / "test_data/test_frames"))
    )
    with pytest.raises(UserError, match=r"moved\.pkl is a file, .* but data\.form=raw"):
        read(prepared, annotations=str(moved), form="raw")
    with pytest.raises(UserError, match=r"test is a folder, .* but data\.form=prepared"):
        read(prepared, annotations=str(both / "test"), form="prepared")
    with pytest.raises(UserError, match=r"no FishBowl annotations at .*train_data/train: the prepared form is"):
        read(prepared, split="train")
    # re-renders in the folder of the videos
    for path in (both / "test_objects").iterdir():
        path.rename(both / "test" / path.name)
    (both / "test_objects").rmdir()
    assert content_of(read(prepared)) == content_of(read(raw))


def test_frames_numbered_from_one(raw):
    before, folder = read(raw), raw / "test_data/test_frames/00001"
    for number in reversed(range(LENGTH)):
        (folder / f"{number:05d}.png").rename(folder / f"{number + 1:05d}.png")
    for record, old in zip(read(raw), before, strict=True):
        assert int(record.image.stem) == old.group["frame"] + (old.group["video"] == "00001")
    (folder / f"{LENGTH:05d}.png").unlink()  # now the numbering is ambiguous: the first or the last one is missing
    with pytest.raises(UserError, match=r"00001/00000\.png \(1 of 26 photos are missing\)"):
        read(raw)


def test_missing_frames(raw):
    bare = read(raw, photos=False)
    gone = bare[0].image
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name} \(1 of 26 photos are missing\)"):
        read(raw)
    with pytest.warns(UserWarning, match="1 of 26 photos are missing"):
        rest = read(raw, skip_broken=True)
    assert held(rest) == held(record for record in bare if record.image != gone) and len(rest) < len(bare)
    shutil.rmtree(raw / "test_data/test_frames")
    assert held(read(raw, photos=False)) == held(bare)
    with pytest.raises(UserError, match=r"no image folder at .*test_frames"):
        read(raw)


def test_equal_values_share_memory(drawn):
    records = read(drawn["prepared"])
    assert len({id(record.image) for record in records}) == len({record.image for record in records})
    assert len({id(rle["size"]) for record in records for rle in (record.modal_rle, record.amodal_rle)}) == 1


def test_fish_without_a_re_render_are_counted(raw):
    before = read(raw)
    shutil.rmtree(raw / "test_data/test_objects/00001_object2")
    with pytest.warns(UserWarning, match="1 fish have no re-render"):
        after = read(raw)
    assert len(after) == len(before) - sum(r.image_id.startswith("00001-") and r.object_id == "3" for r in before)


RAW_MISTAKES = [
    (lambda c: c[0].pop("id"), "object number 1 lacks 'id'"),
    (lambda c: c[0].pop("masks"), "object number 1 lacks 'masks'"),
    (lambda c: c[0].update(id=c[1]["id"]), "object ids occur more than once"),
    (lambda c: c[3].update(masks=c[3]["masks"][:5]), "object 7 has 5 masks, its re-render .* has others"),
    (lambda c: c[3]["masks"].__setitem__(4, None), "object 7, frame 4 has a mask that cannot be read"),
    (lambda c: c[3]["masks"][4].update(counts="01"), "object 7, frame 4 .*not to 100 x 130"),
    (lambda c: c[3]["masks"].__setitem__(4, compressed(np.ones((9, 8)))), r"object 7, frame 4 has a mask of \[9, 8\]"),
    (lambda c: c[3]["masks"][4].update(size=[10**9, 130]), "object 7, frame 4 .*from 1 to 20000"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "text"), RAW_MISTAKES)
def test_mistakes_in_raw_files(raw, edit, text):
    edit_json(raw / SEEN, edit)
    with pytest.raises(UserError, match=rf"00001/objects\.json.*{text}"):
        read(raw)


def test_mistakes_in_the_folders_of_raw_files(raw):
    alone = raw / "test_data/test_objects/00001_object1/objects.json"
    kept = alone.read_text()
    edit_json(alone, lambda content: content.append(content[0]))
    with pytest.raises(UserError, match=r"00001_object1/objects\.json must be a list of one object"):
        read(raw)
    alone.write_text(kept)
    edit_json(alone, lambda content: content[0]["masks"].__setitem__(2, {"size": [3, 3], "counts": [1]}))
    with pytest.raises(UserError, match=r"object 7, frame 2 of its re-render .*not to 3 x 3"):
        read(raw)
    (raw / SEEN).write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"00001/objects\.json must be a list of objects"):
        read(raw)
    shutil.rmtree(raw / "test_data/test")
    (raw / "test_data/test/video1").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no video"):
        read(raw)


PREPARED_MISTAKES = [
    (lambda c: c.update(noname={}), "must hold an object with names like"),
    (lambda c: c.update({"00000_3": []}), "track 00000_3 must be an object whose names are frame numbers"),
    (lambda c: c["00000_3"].update({"x": {}}), "track 00000_3 must be an object whose names are frame numbers"),
    (lambda c: c["00000_3"][1].pop("VM"), "track 00000_3, frame 1 lacks 'VM'"),
    (lambda c: c["00000_3"][1].update(FM=[]), "track 00000_3, frame 1 has a mask that cannot be read"),
    (lambda c: c["00000_3"][1].update(VM=[{"size": [9, 9], "counts": [81]}]), r"frame 1 has a mask of \[9, 9\]"),
    (lambda c: c["00000_3"][1].update(FM=[{"size": [9, 9], "counts": b"!"}]), "frame 1 has a mask that cannot be read"),
    (lambda c: c["00000_3"][1].update(FM_bx=[1, 2, 3]), "frame 1: a box must be four whole numbers"),
    (lambda c: c["00000_3"][1].update(FM_bx=[1, 2, 3, None]), "frame 1: a box must be four whole numbers"),
    (lambda c: c["00000_3"][1].update(FM_bx=np.array([1.5, 2, 3, 4])), "frame 1: a box must be four whole numbers"),
    (lambda c: c["00000_3"][1].update(FM_bx=5), "frame 1: 'FM_bx' must be a list or a tuple or a ndarray, not a whole"),
    (lambda c: c["00000_3"][1].update(OCC_R="much"), "frame 1: 'OCC_R' must be"),
    (lambda c: c["00000_3"][1].update(OCC_R=b"much"), "frame 1: 'OCC_R' must be .*, not a bytes"),
]


def test_boxes_can_be_arrays(prepared):
    before = read(prepared)

    def as_arrays(content):
        for track in content.values():
            for entry in track.values():
                entry.update(FM_bx=np.array(entry["FM_bx"]), VM_bx=tuple(entry["VM_bx"]))

    change(prepared, as_arrays)
    assert held(read(prepared)) == held(before)


@pytest.mark.parametrize(("edit", "text"), PREPARED_MISTAKES)
def test_mistakes_in_prepared_files(prepared, edit, text):
    change(prepared, edit)
    with pytest.raises(UserError, match=rf"test_data\.pkl.*{text}"):
        read(prepared)


def test_a_prepared_file_is_not_executed(prepared):
    change(prepared, lambda content: content.update(x_1=print))
    with pytest.raises(
        UserError, match=r"test_data\.pkl, before byte \d+: it refers to 'builtins.print'|'__builtin__.print'"
    ):
        read(prepared)
