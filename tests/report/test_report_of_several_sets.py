"""One report of several data sets: first side by side, then separately."""

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import EvalConfig, ReportConfig, SyntheticData
from amodalseg.metrics.detection import DETECTION
from amodalseg.metrics.protocols import summarize
from amodalseg.models.geometric.model import ConvexHull, FilledBox, ModalCopy
from amodalseg.report.build import build_report
from amodalseg.report.table import across_tables, all_figures, plain_table
from amodalseg.types import AmodalRecord, Query
from tests.report.counted import count_all

MODELS = [ModalCopy(), FilledBox(), ConvexHull()]
SETS = [("kins", "test"), ("toys", "val")]


@pytest.fixture(scope="module")
def records():
    """For each data set six discs in two photos, occluded on one side; the ids are the same in both sets."""
    y, x = np.mgrid[:48, :64]
    made = []
    for dataset, split in SETS:
        for number in range(6):
            amodal = (x - 26) ** 2 + (y - 22) ** 2 <= (9 + number) ** 2
            side = x <= 30 - number if dataset == "kins" else y <= 26 - number
            modal = masks.encode(amodal & (side | (number == 0)))
            photo = np.full((48, 64, 3), 120, np.uint8)
            names = dataset, split, str(number // 3), str(number)
            made.append(AmodalRecord(*names, photo, modal, masks.encode(amodal)))
    return made


@pytest.fixture(scope="module")
def found_by(records):
    return count_all(MODELS, records)


@pytest.fixture
def results(found_by):
    return summarize([row for found in found_by.values() for row, _, _ in found])


def test_one_line_for_each_model_and_one_column_for_each_set(results):
    occluded, full = across_tables(results)
    assert occluded.title.endswith("per_object_occluded · occluded") and full.title.endswith("· full")
    assert full.header == ["model", "kins / test", "toys / val", "mean over sets"]
    for line in full.lines:
        values = [r["scores"]["per_object_occluded"]["full"] for r in results if r["model"] == line[0].text]
        assert [cell.text for cell in line[1:]] == [f"{100 * value:.1f}" for value in [*values, sum(values) / 2]]
        assert all(" – " in cell.note for cell in line[1:3])
    best = max(full.lines, key=lambda line: float(line[-1].text))
    assert best[-1].best and sum(line[-1].best for line in full.lines) == 1
    assert plain_table(results).startswith(occluded.title)
    assert plain_table(results).count("mean over sets") == 2


def test_no_mean_if_a_set_has_no_value_and_no_table_for_a_single_set(results):
    lacking = [result for result in results if (result["model"], result["dataset"]) != ("box", "toys")]
    _, full = across_tables(lacking)
    (box,) = [line for line in full.lines if line[0].text == "box"]
    assert box[1].text != "–" and [cell.text for cell in box[2:]] == ["–", "–"]
    results[0]["scores"]["per_object_occluded"]["full"] = None
    _, full = across_tables(results)
    assert [cell.text for cell in full.lines[0][1:]][0::2] == ["–", "–"]
    assert across_tables([result for result in results if result["dataset"] == "kins"]) == []


def test_detection_protocols_are_listed_among_all_figures_in_percent(results):
    name = next(iter(DETECTION))
    for place, result in enumerate(results):
        if result["dataset"] == "kins":
            result["detection"] = {name: {"AP": 0.1 * (place + 1), "AR_1": None}}
    kins, toys = all_figures(results)
    assert kins.header[1:] == ["modal", "box", "convex_hull"]
    values = {line[0].text: [cell.text for cell in line[1:]] for line in kins.lines}
    assert values[f"{name} · AP"] == ["10.0", "30.0", "50.0"] and values[f"{name} · AR_1"] == ["–", "–", "–"]
    assert not any(line[0].text.startswith(name) for line in toys.lines)
    notes = {line[0].text: line[1].note for line in kins.lines}
    assert " – " in notes["conddiff · full"] and " – " in notes["mean_bucket · le_50"]


def test_every_set_has_its_own_tables_pictures_and_diagram(tmp_path, records, found_by, results):
    results[0]["detection"] = {"amodal_ap": {"AP": 0.5}}
    dataset = [(record, Query(record.image, record.modal)) for record in records]
    config = EvalConfig(out=str(tmp_path), models=list(found_by), data=SyntheticData(), report=ReportConfig(pictures=1))
    page = build_report(config, tmp_path, dataset, found_by, results, {}, {}).read_text()
    shown = (tmp_path / "report.md").read_text()
    assert page.index("across data sets") < page.index("Scores: kins / test") < page.index("Scores: toys / val")
    assert page.count("data:image/png") == 2 + 2 * 3
    for dataset_name, split in SETS:
        leader = max(
            (result for result in results if result["dataset"] == dataset_name),
            key=lambda result: result["scores"]["per_object_occluded"]["occluded"],
        )["model"]
        assert f"{dataset_name} / {split}: Best of {leader}, by occluded IoU" in page
    assert page.count("Beside published numbers") == 1, "only one of the two has any"
    for text in (page, shown):
        assert "Beside published numbers: kins / test" in text
        assert DETECTION["amodal_ap"].source in text.replace("&#x27;", "'").replace("\xa0", " ")
        assert "CondDiff-AMO, table 3" in text and "Set apart" in text and text.count("<details>") >= 1
    fold = shown[shown.index("<details>") : shown.index("</details>")]
    assert "mask M alone" in fold and "mask M alone" not in shown.replace(fold, "")
