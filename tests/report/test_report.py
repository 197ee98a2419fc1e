import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import EvalConfig, ReportConfig, SyntheticData
from amodalseg.metrics.counts import row_key
from amodalseg.metrics.protocols import PROTOCOLS, summarize
from amodalseg.models.geometric.model import ConvexHull, FilledBox, ModalCopy
from amodalseg.report.build import build_report
from amodalseg.report.figures import iou_against_rate, iou_against_steps
from amodalseg.report.grid import encode_png, grid
from amodalseg.report.html import Strip, write_report
from amodalseg.report.pictures import (
    COMPLETED,
    VISIBLE,
    object_cells,
    object_strip,
    overlay,
    record_grid,
    validation_grid,
)
from amodalseg.report.select import best_median_worst, caption, iou, ranked_by
from amodalseg.report.table import MAIN, main_tables, plain_table, to_html, to_markdown, write_metrics
from amodalseg.report.thumbnail import make_thumbnail, show_thumbnail
from amodalseg.types import AmodalRecord, Query
from tests.report.counted import count_all

MODELS = [ModalCopy(), FilledBox(), ConvexHull()]


@pytest.fixture(scope="module")
def records():
    """Nine discs in three photos, occluded on the right by increasing shares; the first of each photo is unoccluded."""
    y, x = np.mgrid[:60, :80]
    made = []
    for number in range(9):
        amodal = (x - 30 - number) ** 2 + (y - 28) ** 2 <= (14 + number) ** 2
        modal = amodal & (x <= 30 + number + (99 if number % 3 == 0 else 12 - 2 * number))
        image = np.full((60, 80, 3), (90, 120, 90), np.uint8)
        split, rle = f"{number // 3:03d}", masks.encode(modal)
        made.append(
            AmodalRecord("discs", "val", split, str(number), image, rle, masks.encode(amodal), category="<disc>")
        )
    return made


@pytest.fixture(scope="module")
def found_by(records):
    return count_all(MODELS, records)


@pytest.fixture(scope="module")
def rows(found_by):
    return [row for found in found_by.values() for row, *_ in found]


class Page(HTMLParser):
    """A strict parser: every opened element must be closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.tags, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.images += [value for name, value in attrs if tag == "img" and name == "src"]
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_png(data):
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def test_the_report_is_complete_and_self_contained(tmp_path, rows):
    strip = Strip(encode_png(np.zeros((8, 9, 3), np.uint8)), "disc <1> & co")
    about = {
        "command": "amodalseg eval <x>",
        "commit": "abc",
        "versions": {"numpy": "2"},
        "note": "a: 1\nb: 2",
        "data": "discs",
    }
    curves = {"sampler": [(1, 0.5, 0.1), (10, 0.6, None)]}
    markdown, page = write_report(
        tmp_path / "out", summarize(rows), rows, {"best <b>": [strip], "none": []}, curves, about
    )
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["report.html", "report.md"]
    text = page.read_text()
    parsed = Page(text)
    assert "http" not in text and "script" not in parsed.tags and "link" not in parsed.tags
    assert len(parsed.images) == 3 and parsed.links == parsed.images
    assert all(source.startswith("data:image/png;base64,") for source in parsed.images)
    shown = markdown.read_text()
    for name, protocol in PROTOCOLS.items():
        assert name in parsed.text and name in shown and protocol.explanation in shown
        assert protocol.explanation in parsed.text.replace("\xa0", " ")
    for part in ("amodalseg eval <x>", "abc", "numpy 2", "a: 1\nb: 2", "best <b>", "disc <1> & co"):
        assert part in parsed.text
    assert "\nb: 2" in shown and "http" not in shown
    _, none = write_report(tmp_path / "plain", summarize(rows), rows, {}, {}, {}, with_html=False)
    assert none is None and [file.name for file in (tmp_path / "plain").iterdir()] == ["report.md"]


@pytest.mark.parametrize("with_html", [True, False])
def test_report_of_an_evaluation(tmp_path, records, found_by, rows, with_html):
    dataset = [(record, Query(record.image, record.modal)) for record in records]
    config = EvalConfig(
        out=str(tmp_path), models=list(found_by), data=SyntheticData(), report=ReportConfig(html=with_html, pictures=2)
    )
    path = build_report(config, tmp_path, dataset, found_by, summarize(rows), {}, {"commit": "abc"})
    assert path.name == ("report.html" if with_html else "report.md")
    text = path.read_text()
    assert "pictures: 2" in text and "abc" in text
    if with_html:
        page = Page(text)
        assert len(page.images) == 1 + 3 * 2
        leader = max(summarize(rows), key=lambda result: result["scores"]["per_object_occluded"]["occluded"])["model"]
        assert all(f"{title} of {leader}, by occluded IoU" in page.text for title in ("Best", "Median", "Worst"))


def test_columns_name_their_protocol_and_the_best_value_is_marked(rows):
    (table,) = main_tables(summarize(rows), rows)
    assert table.header[1 : 1 + len(MAIN)] == [f"{protocol} · {name}" for protocol, name in MAIN]
    results = summarize(rows)
    for column, (protocol, name) in enumerate(MAIN, start=1):
        values = [result["scores"][protocol][name] for result in results]
        assert [line[column].text for line in table.lines] == [f"{100 * value:.1f}" for value in values]
        best = max(float(line[column].text) for line in table.lines)
        assert [line[column].best for line in table.lines] == [float(line[column].text) == best for line in table.lines]
        assert all(re.fullmatch(r"\d+\.\d – \d+\.\d", line[column].note) for line in table.lines)
    assert [line[-5].text for line in table.lines] == ["9"] * 3 and [line[-4].text for line in table.lines] == ["6"] * 3
    assert all(re.fullmatch(r"0\.\d{4}", line[-3].text) for line in table.lines)
    assert [[cell.text for cell in line[-2:]] for line in table.lines] == [["–", "0"]] * 3  # no peak memory
    assert "**" in to_markdown(table) and "<strong>" in to_html(table)
    plain = plain_table(results)
    assert plain.startswith("discs / val") and "per_object_occluded" in plain and "*" in plain
    assert len({len(line) for line in plain.splitlines()[2:4]}) == 1
    alone = plain_table(results[:1])
    assert "*" not in alone  # the only model is not marked as best


def test_undefined_figures_are_shown_as_a_dash(rows):
    unoccluded = [row for row in rows if row["occluded_area"] == 0 and row["model"] == "modal"]
    (table,) = main_tables(summarize(unoccluded), unoccluded)
    assert [cell.text for cell in table.lines[0][1:6]] == ["–", "–", "100.0", "–", "100.0"]


def test_the_metrics_file_contains_fractions_and_null(tmp_path, rows):
    results = summarize([row for row in rows if row["occluded_area"] == 0])
    write_metrics(tmp_path / "metrics.json", results)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"results": results}
    assert results[0]["scores"]["pooled"]["occluded"] is None and "null" in (tmp_path / "metrics.json").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_best_median_and_worst_do_not_depend_on_the_order(rows):
    mine = [row for row in rows if row["model"] == "box"]
    hidden = {row_key(row): iou(row, "occ") for row in mine if row["occluded_area"] > 0}
    order = sorted(hidden, key=lambda key: (-hidden[key], key))
    chosen = best_median_worst(mine, 2)
    assert chosen == {"best": order[:2], "median": order[2:4], "worst": [order[-1], order[-2]]}
    assert best_median_worst(mine[::-1], 2) == chosen
    assert best_median_worst(mine, 99)["best"] == order and best_median_worst([], 3)["worst"] == []
    ties = [row for row in rows if row["model"] == "modal"]  # ties: every hidden part is missed
    assert best_median_worst(ties[::-1], 2)["best"] == sorted(hidden)[:2]


def test_without_hidden_parts_objects_are_ranked_by_the_whole_mask(rows):
    whole = [row for row in rows if row["model"] == "box" and row["occluded_area"] == 0]
    assert ranked_by(whole) == "full IoU" and len(best_median_worst(whole, 9)["best"]) == 3
    assert "full IoU: box" in caption(whole[:1])
    hidden = [row for row in rows if row["object_id"] == "4"]
    assert re.fullmatch(
        r"discs/val/001/4 · <disc> · occlusion rate \d+ % · occluded IoU: modal 0.0, box [\d.]+, convex_hull [\d.]+",
        caption(hidden),
    )


def test_the_overlay_tints_only_the_mask():
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture = overlay(image, mask, (200, 0, 50), alpha=0.5, outline=1)
    assert (image == 100).all() and (picture[~mask] == 100).all()
    assert (picture[6:14, 6:14] == (150, 50, 75)).all()
    assert (picture[5, 5:15] == (200, 0, 50)).all() and (picture[5:15, 14] == (200, 0, 50)).all()
    assert (overlay(image, mask, (200, 0, 50), alpha=1.0)[mask] == (200, 0, 50)).all()


def test_colours_are_at_the_positions_of_the_masks():
    image = np.full((100, 160, 3), 128, np.uint8)
    amodal, modal, predicted = (np.zeros((100, 160), bool) for _ in range(3))
    amodal[20:80, 40:100] = True
    modal[20:80, 40:70] = True
    predicted[20:80, 40:85] = True
    cells = object_cells(image, modal, [predicted], amodal, side=180, margin=0.25)
    assert [cell.shape for cell in cells] == [(180, 180, 3)] * 4
    # the window is 90 pixels wide, from (25, 5): two pixels of the cell for each pixel of the photo
    inside = {name: (100, 2 * (x - 25)) for name, x in {"seen": 55, "found": 78, "missed": 92, "outside": 110}.items()}

    def is_color(cell, where, color):
        mixed = np.rint(0.45 * 128 + 0.55 * np.array(color)).astype(int) if color else np.array([128] * 3)
        return np.abs(cell[inside[where]].astype(int) - mixed).max() <= 1

    expected = {
        "seen": [None, VISIBLE, VISIBLE, VISIBLE],
        "found": [None, None, COMPLETED, COMPLETED],
        "missed": [None, None, None, COMPLETED],
        "outside": [None] * 4,
    }
    for where, colors in expected.items():
        for cell, color in zip(cells, colors, strict=True):
            assert is_color(cell, where, color), (where, color)
    right_edge = cells[2][100, 2 * (99 - 25) - 2 : 2 * (100 - 25) + 2]
    assert (right_edge.min(axis=1) > 230).any(), "the outline of the truth is white in the prediction"
    assert len(object_cells(image, modal, [predicted], None)) == 3


def test_an_object_larger_than_the_photo_is_wide_gets_white_bands():
    mask = np.ones((20, 100), bool)
    photo = object_cells(np.zeros((20, 100, 3), np.uint8), mask, [], None, side=100, margin=0.0)[0]
    assert (photo[:38] == 255).all() and (photo[42:58] == 0).all() and (photo[62:] == 255).all()


def test_completed_pictures_are_shown_below_their_masks(records):
    record = records[4]
    whole = np.full((60, 80, 3), (10, 20, 200), np.uint8)
    named = [("none", record.modal), ("painter", record.amodal)]
    completed = {"painter": np.full((60, 80, 3), (200, 30, 10), np.uint8)}
    above = object_strip(record.image, record.modal, named, record.amodal, side=64)
    strip = object_strip(record.image, record.modal, named, record.amodal, 64, completed, whole)
    assert strip.shape == (above.shape[0] + 70, *above.shape[1:]) and np.array_equal(strip[:-70], above)
    cells = [strip[-70:-6, 6 + 70 * column : 70 + 70 * column] for column in range(5)]
    assert all((cell == 255).all() for cell in cells[:3]) and (cells[3] == (200, 30, 10)).all()
    amodal = object_cells(record.image, record.modal, [], record.amodal, 64)[-1] != 0
    assert (cells[4][32, 32] == (10, 20, 200)).all() and (cells[4][0, 0] == 255).all() and amodal.any()
    unknown = object_strip(record.image, record.modal, named, record.amodal, 64, completed)
    assert (unknown[-70:-6, 6 + 280 : 70 + 280] == 255).all()


def test_thumbnails_contain_what_a_strip_shows():
    y, x = np.mgrid[:400, :600]
    photo = np.zeros((400, 600, 3), np.uint8)
    picture = np.stack([x * 255 // 600, y * 255 // 400, np.full_like(x, 90)], axis=2).astype(np.uint8)
    mask = (x >= 100) & (x < 500) & (y >= 50) & (y < 250)
    thumbnail = make_thumbnail(picture, mask)
    assert thumbnail[:4] == (40, 0, 560, 310) and len(thumbnail.file) < 20_000
    shown = show_thumbnail(photo, thumbnail)
    assert (shown[310:] == 0).all() and (shown[:, :40] == 0).all() and (shown[:, 560:] == 0).all()
    assert np.abs(shown[:310, 40:560].astype(int) - picture[:310, 40:560]).max() <= 8 and (photo == 0).all()
    dot = np.zeros((400, 600), bool)
    dot[399, 0] = True
    assert (show_thumbnail(photo, make_thumbnail(photo + np.uint8(9), dot))[399, 0] == 9).all()


def test_strip_and_grid_have_titles_and_room_for_every_cell(records):
    record = records[4]
    strip = object_strip(
        record.image,
        record.modal,
        [("a", record.modal), ("outputs/a/long/name/of/run", record.amodal)],
        record.amodal,
        side=128,
    )
    cell = object_cells(record.image, record.modal, [], None, side=128)[0]
    assert strip.dtype == np.uint8 and strip.shape[1] == 6 + 5 * (128 + 6)
    top = strip.shape[0] - 128 - 6
    assert np.array_equal(strip[top : top + 128, 6 : 6 + 128], cell)
    title = strip[:top, 6 + 134 : 6 + 134 + 128]
    assert (title < 128).any() and (title[:, :8] > 200).all(), "a title is written, inside its column"
    small, large = np.zeros((10, 20, 3), np.uint8), np.full((30, 20, 3), 9, np.uint8)
    sheet = grid([[small, large], [large]])
    assert sheet.shape == (6 + 2 * 36, 6 + 2 * 26, 3) and (sheet[6 + 10 : 6 + 20, 6:26] == 0).all()
    assert np.array_equal(read_png(encode_png(sheet)), sheet)


def test_grids_of_records_and_of_predictions(records):
    entries = [(record, ConvexHull().predict(record.image, record.modal)) for record in records[:3]]
    assert validation_grid(entries, side=64).shape == (26 + 3 * 70, 6 + 4 * 70, 3)
    assert record_grid(records[:5], side=64).shape == (26 + 3 * 70, 6 + 6 * 70, 3)
    assert record_grid(records[:1], side=64).shape == (26 + 70, 6 + 3 * 70, 3)


def test_diagrams_are_pictures_and_do_not_use_pyplot_state(rows):
    import sys

    by_model = {model.name: [row for row in rows if row["model"] == model.name] for model in MODELS}
    for data in (
        iou_against_rate(by_model),
        iou_against_steps({"a": [(10, 0.8, 0.5), (1, 0.7, None)], "b": [(1, None, None)]}),
    ):
        picture = read_png(data)
        assert picture.shape[1] > 900 and picture.std() > 5
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_many_models_continue_in_further_rows(records):
    record = records[4]
    named = [(f"model {i}", record.modal) for i in range(9)]
    strip = object_strip(record.image, record.modal, named, record.amodal, side=64)
    few = object_strip(record.image, record.modal, named[:4], record.amodal, side=64)
    assert few.shape[1] == strip.shape[1] == 6 + 7 * 70 and strip.shape[0] == 2 * few.shape[0]
    assert (strip[few.shape[0] :, 6 + 5 * 70 :] == 255).all()  # twelve pictures in rows of seven and five
    truth = object_cells(record.image, record.modal, [], record.amodal, 64)[-1]
    assert np.array_equal(strip[-6 - 64 : -6, 6 + 4 * 70 : 70 + 4 * 70], truth)
