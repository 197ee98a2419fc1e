import numpy as np
import pytest

from amodalseg import masks, read_dataset
from amodalseg.cli import main
from amodalseg.config.schema import CocoaData, CocoData
from amodalseg.data.check.stats import describe, measure
from amodalseg.data.images import load_image
from amodalseg.data.open import open_source
from amodalseg.data.source import RecordList
from amodalseg.errors import UserError
from tests.worlds import coco_world, cocoa_world


@pytest.fixture
def root(tmp_path):
    cocoa_world(tmp_path / "cocoa", 3, split="train", seed=1)
    return cocoa_world(tmp_path / "cocoa")


def test_counts_are_those_of_the_decoded_masks(root):
    records = read_dataset("cocoa", root)
    stats = measure(open_source(CocoaData(root=str(root)), photos=False))
    assert stats.name == "cocoa / val" and len(stats) == 12 and stats.amodal
    for place, record in enumerate(records):
        modal, amodal = record.modal, record.amodal
        expected = {
            "height": record.height, "width": record.width, "modal_area": modal.sum(), "amodal_area": amodal.sum(),
            "hidden_area": (amodal & ~modal).sum(), "outside_area": (modal & ~amodal).sum(),
            "touches_border": masks.touches_border(amodal),
        }  # fmt: skip
        assert {name: values[place] for name, values in stats.counts.items()} == expected
    assert stats.rates == pytest.approx([record.occlusion_rate for record in records if record.occlusion_rate > 0])
    assert stats.sizes == pytest.approx([record.amodal.sum() ** 0.5 for record in records])
    assert stats.shares == pytest.approx([record.amodal.mean() for record in records])
    assert stats.per_image.tolist() == [6, 6] and stats.num_stuff == 2
    assert stats.categories == dict.fromkeys(["ball", "cup", "dog", "plate", "spoon", "table"], 2)
    assert stats.flags == {"fully_visible": 4, "empty_modal": 2}


def test_the_printed_table_contains_the_counts(root):
    train, val = (measure(open_source(CocoaData(root=str(root), split=split))) for split in ("train", "val"))
    lines = describe([train, val]).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    found = {line[:40].split("  ")[0].strip() or line.split()[0]: line for line in lines}
    assert lines[0].split() == ["cocoa", "/", "train", "cocoa", "/", "val"]
    for title, values in {
        "objects": ("18", "12"), "photos with objects": ("3", "2"), "totally hidden": ("3 (16.7 %)", "2 (16.7 %)"),
        "with occlusion": ("12 (66.7 %)", "8 (66.7 %)"), "crowds": ("0 (0.0 %)", "0 (0.0 %)"),
        "modal pixels outside the amodal mask": ("0 (0.0 %)", "0 (0.0 %)"),
        "stuff": ("3 (16.7 %)", "2 (16.7 %)"), "touching the photo's border": ("3 (16.7 %)", "2 (16.7 %)"),
    }.items():  # fmt: skip
        line = next(line for line in lines if line.strip().startswith(title + "  "))
        assert line.split(title)[1].split() == " ".join(values).split(), found
    median = np.median(100 * val.rates)
    assert f" {median:.1f} / " in describe([val])


def test_rare_categories_are_summed_up(root):
    records = read_dataset("cocoa", root)
    many = [records[i % 12] for i in range(60)]
    for place in range(60):
        many[place] = type(records[0])(**{**vars(many[place]), "category": f"name{place % 25:02d}"})
    text = describe([measure(RecordList(many))])
    assert "name19" in text and "name20" not in text
    assert [line.split() for line in text.splitlines()][-1] == ["5", "others", "10", "(16.7", "%)"]


def test_sets_without_amodal_masks_have_only_sizes(tmp_path):
    annotations, images = coco_world(tmp_path)
    stats = measure(open_source(CocoData(annotations=[str(annotations)], images=[str(images)])))
    assert not stats.amodal and not len(stats.rates) and stats.num_stuff is None
    line = next(line for line in describe([stats]).splitlines() if line.startswith("with occlusion"))
    assert line.endswith("unknown")
    with pytest.raises(UserError, match="no object"):
        measure(RecordList([]))


def test_the_command_reads_annotations_only_and_draws(root, tmp_path, capsys):
    for path in root.glob("*2014/*.jpg"):
        path.unlink()
    picture = tmp_path / "stats.png"
    assert main(["data", "stats", "cocoa", str(root), "--split", "train,val", "--to", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "cocoa / train" in text and "cocoa / val" in text and str(picture) in text
    assert load_image(picture).std() > 10
    assert main(["data", "stats", "cocoa", str(root), "include_stuff=false"]) == 0
    assert "10" in capsys.readouterr().out
    assert main(["data", "stats", "cocoa", str(root), "--to", "picture.jpg"]) == 2
    assert "not a picture file" in capsys.readouterr().err


def test_diagrams_of_sets_without_categories_or_amodal_masks(tmp_path, capsys):
    annotations, images = coco_world(tmp_path)
    arguments = ["coco", f"annotations=[{annotations}]", f"images=[{images}]", "--to", str(tmp_path / "a.png")]
    assert main(["data", "stats", *arguments]) == 0
    assert main(["data", "stats", "synthetic", "size=64", "num_objects=3", "--to", str(tmp_path / "b.png")]) == 0
    assert load_image(tmp_path / "a.png").std() > 10 and load_image(tmp_path / "b.png").std() > 10
