"""The published numbers: all are present, and they are consistent except for flagged ones."""

import importlib.resources
import itertools
from collections import defaultdict

import pytest

from amodalseg.config.schema import PUBLISHED
from amodalseg.metrics.counts import COLUMNS, TEXT_COLUMNS
from amodalseg.metrics.protocols import summarize
from amodalseg.report.beside import beside_published
from amodalseg.report.published import FLAGS, LOOSE, OTHER_SETS, load_published

AMO, FREE, C2F = "CondDiff-AMO", "Tuning-free amodal segmentation", "C2F-Seg"
MIXED, MOVE, EDIT = "Progressive mixed context diffusion", "DiffOOM", "MRGD"
OURS = "Tuning-free inpainting"
BUCKETS = ["le_50", "le_40", "le_30", "le_20", "le_10", "le_5"]
BUCKET_TABLE = {"cocoa": "2", "bsds_a": "3", "kins": "4", "fishbowl": "5", "sailvos": "6"}
MASK_TABLE = {"cocoa": "S3", "bsds_a": "S4", "kins": "S5", "fishbowl": "S6", "sailvos": "S7"}
MISPRINT = 0.11
"""Percent. Two roundings of a figure can differ by 0.1, so a smaller step says nothing."""


def find(**wanted):
    return [row for row in load_published() if all(getattr(row, name) == value for name, value in wanted.items())]


def one(**wanted):
    (row,) = find(**wanted)
    return row


def bucket_row(table, method=OURS, variant="", **more):
    """Values by decreasing occlusion rate."""
    rows = {row.figure: row.value for row in find(paper=FREE, table=table, method=method, variant=variant, **more)}
    assert list(rows) == BUCKETS, (table, method, variant, more)
    return list(rows.values())


def bucket_rows():
    """Every row of a table of buckets: (table, data set, method, variant) -> numbers."""
    rows = defaultdict(list)
    for row in load_published():
        if row.figure in BUCKETS:
            rows[row.table, row.dataset, row.method, row.variant].append(row)
    return rows


def falls(values):
    return any(later < earlier - MISPRINT for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize(
    ("paper", "table", "lines", "count"),
    [
        *[(AMO, "1", 8, 14), (AMO, "2", 5, 9), (AMO, "3", 10, 45), (AMO, "4", 11, 22), (C2F, "README", 1, 2)],
        *[(FREE, "1", 9, 9 * 6 - 5 - 4), (FREE, "2", 8, 48), (FREE, "3", 7, 42), (FREE, "4", 7, 42)],
        *[(FREE, "5", 7, 42), (FREE, "6", 7, 42), (FREE, "7", 4, 4), (FREE, "8", 6, 36), (FREE, "9", 4, 24)],
        *[(FREE, "S1", 5, 10), (FREE, "S2", 5, 30), *((FREE, f"S{number}", 9, 54) for number in range(3, 8))],
        *[(MIXED, "1", 4 * 3, 52), (MIXED, "2", 3 * 2, 12), (MIXED, "3", 3, 9)],
        *[(MOVE, "1", 2, 4), (MOVE, "2", 7, 21), (MOVE, "3", 4, 12), (MOVE, "4", 6, 18), (EDIT, "1", 3 * 3, 27)],
    ],
)
def test_every_table_is_complete(paper, table, lines, count):
    rows = find(paper=paper, table=table)
    names = {(row.method, row.variant, row.setting, row.dataset if table == "S2" else "") for row in rows}
    assert (len(names), len(rows)) == (lines, count)
    keys = [(row.method, row.variant, row.setting, row.dataset, row.figure) for row in rows]
    assert len(set(keys)) == len(keys), "a number stands there twice"


def test_there_are_no_other_tables_and_the_file_is_package_data():
    assert len(load_published()) == 92 + 635 + 73 + 55 + 27
    text = importlib.resources.files("amodalseg.report").joinpath("published.csv").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1 + len(load_published())
    assert "\r" not in text and text.endswith("\n")


def test_fields_of_every_row_are_valid():
    (scored,) = summarize([count_row(dataset="cocoa")])
    figures = scored["scores"]
    for row in load_published():
        assert row.method and row.paper and row.table, row
        assert row.dataset in {*PUBLISHED, *OTHER_SETS, "average", ""}, row
        assert row.flag in FLAGS and (row.reason if row.flag else True), row
        whole, _, decimals = row.printed.partition(".")
        assert whole.isdigit() and (decimals.isdigit() or not decimals) and 0 <= row.value < 100, row
        assert len(decimals) in ((1, 2) if row.figure not in LOOSE else range(5)), row
        if row.protocol:
            assert row.figure in figures[row.protocol], row
            assert row.flag != "unknown_protocol", row
        elif row.figure in ("memory_gb", "seconds"):
            assert row.dataset == "" and row.flag == "", row
        elif row.figure in LOOSE:
            assert row.flag and row.dataset not in PUBLISHED, row
        else:
            assert row.flag, f"the protocol is unknown and nothing says so: {row}"


def test_the_average_is_the_mean_of_the_five_buckets():
    rows = find(paper=FREE, table="1")
    whole = 0
    for average in (row for row in rows if row.dataset == "average"):
        parts = [r.value for r in rows if (r.method, r.variant) == (average.method, average.variant) and r != average]
        assert len(parts) == 5 and abs(sum(parts) / 5 - average.value) <= 0.05 + 1e-9, average
        whole += 1
    assert whole == 7


def test_rows_of_several_tables_agree():
    base = bucket_row("2", variant="SD1.5")
    assert base == bucket_row("8", variant="SD1.5, epsilon=0.3")
    assert base == bucket_row("9", variant="SD1.5, mask M, background ours")
    assert bucket_row("9", variant="SD1.5, mask R, background ours") == bucket_row("S3", variant="SD1.5, mask R")
    for figure in ("full", "occluded"):
        removed = one(paper=AMO, table="4", variant="nothing removed", figure=figure)
        assert removed.printed == one(paper=AMO, table="1", method=AMO, figure=figure).printed
    for method in ("Pix2gestalt", "SDXL-Inpainting"):  # quoted by both papers
        first, second = find(method=method, dataset="cocoa", figure="full")
        assert {first.paper, second.paper} == {AMO, FREE} and first.printed == second.printed


@pytest.mark.parametrize("dataset", MASK_TABLE)
def test_the_first_row_of_the_mask_tables_is_the_best_of_the_four_models(dataset):
    four = [bucket_row(BUCKET_TABLE[dataset], variant=name) for name in ("SD1.5", "SDXL", "SD2", "Flux")]
    printed = bucket_row(MASK_TABLE[dataset], variant="best of four, mask M")
    flags = {row.flag for row in find(table=MASK_TABLE[dataset], variant="best of four, mask M")}
    assert printed == [max(column) for column in zip(*four, strict=True)]
    assert flags == ({""} if printed in four else {"not_comparable"})


def test_buckets_rise_with_less_occlusion_except_for_flagged_rows():
    broken = set()
    for (table, dataset, method, variant), rows in bucket_rows().items():
        assert [row.figure for row in rows] == BUCKETS
        if table == "S2":  # an area, not a prediction: it need not fit better with less occlusion
            continue
        if falls([row.value for row in rows]):
            broken.add((table, dataset, method, variant))
            assert any(row.flag == "suspect" for row in rows)
        assert not falls([row.value for row in rows if row.flag != "suspect"])
    assert broken == {
        ("2", "cocoa", "AmodalWild", ""),
        ("3", "bsds_a", OURS, "Flux"),
        *(("S5", "kins", OURS, f"{name}") for name in ("SDXL, mask D", "Flux, mask R", "Flux, mask D")),
    }


def test_rows_equal_to_those_of_another_data_set_are_flagged():
    """Five of six equal numbers under another name or for another data set cannot be a coincidence."""
    alike = []
    for (one_key, one_rows), (two_key, two_rows) in itertools.combinations(bucket_rows().items(), 2):
        equal = sum(a.printed == b.printed for a, b in zip(one_rows, two_rows, strict=True))
        if equal >= 5 and (one_key[1] != two_key[1] or one_key[2] != two_key[2]):
            alike.append((one_key, two_key))
            assert any(all(row.flag == "suspect" for row in rows) for rows in (one_rows, two_rows)), (one_key, two_key)
    assert alike == [
        (("3", "bsds_a", "Pix2gestalt", ""), ("5", "fishbowl", "Pix2gestalt", "")),
        (("4", "kins", OURS, "Flux"), ("S6", "fishbowl", OURS, "Flux, mask D")),
        (("5", "fishbowl", "SAM", ""), ("S6", "fishbowl", OURS, "SD1.5, mask R")),
    ]


def test_values_of_table_1_that_equal_a_bucket_are_flagged():
    equal = set()
    for row in find(paper=FREE, table="1"):
        if row.dataset != "average":
            same = find(table=BUCKET_TABLE[row.dataset], method=row.method, variant=row.variant, figure="le_50")
            if same and same[0].printed == row.printed:
                equal.add((row.dataset, row.variant))
                assert row.flag == "suspect", row
    assert equal == {("cocoa", "SDXL"), ("cocoa", "SD1.5"), ("kins", "SDXL")}
    assert one(paper=FREE, table="1", dataset="kins", variant="SD1.5").value == 58.4  # not 64.8


def test_flagged_rows_are_exactly_the_expected_ones():
    def flagged(flag):
        return {(r.paper, r.table, r.dataset, r.method, r.variant) for r in load_published() if r.flag == flag}

    def free(table, dataset, variant="", method=OURS):
        return (FREE, table, dataset, method, variant)

    assert flagged("suspect") == {
        (AMO, "1", "cocoa", "SDAmodal", ""),
        *((AMO, "2", "cocoa", name, "") for name in ("SDXL-Inpainting", "Pix2gestalt")),
        *((AMO, "3", name, "SDXL-Inpainting", "") for name in ("kins", "cocoa_cls", "d2sa")),
        *(free("1", name, method="SDXL-Inpainting") for name in ("cocoa", "bsds_a")),
        *((MIXED, "2", "", "Mixed context", name) for name in ("easy", "easy, without mixed context")),
        (MIXED, "2", "", "Naive outpainting", "easy"),
        *((MIXED, "3", "", name, "") for name in ("Human consensus", "Curation rule")),
        *(free("1", "cocoa", name) for name in ("SDXL", "SD1.5")),
        *(free("1", "cocoa", method="Pix2gestalt"), free("1", "kins", "SDXL")),
        *(free("2", "cocoa", method="AmodalWild"), free("3", "bsds_a", "Flux")),
        *(free("5", "fishbowl", method="Pix2gestalt"), free("7", "cocoa", "SDXL, nothing removed")),
        *(free("S5", "kins", name) for name in ("SDXL, mask D", "Flux, mask R", "Flux, mask D")),
        *(free("S6", "fishbowl", name) for name in ("SD1.5, mask R", "Flux, mask D")),
    }
    apart = {name for name in flagged("not_comparable") if name[0] not in (MIXED, MOVE)}
    assert apart == {
        *((AMO, "3", name, AMO, "") for name in ("kins", "cocoa_cls", "d2sa")),
        *((AMO, "3", "kins", name, "") for name in ("Pix2gestalt", "SAM")),
        *(free("1", "kins", method=name) for name in ("Pix2gestalt", "SAM")),
        *(free(MASK_TABLE[name], name, "best of four, mask M") for name in ("bsds_a", "sailvos")),
    }
    (flux,) = find(paper=FREE, table="3", variant="Flux", flag="suspect")
    (wild,) = find(paper=FREE, table="2", method="AmodalWild", flag="suspect")
    assert flux.figure == wild.figure == "le_5" and (flux.printed, wild.printed) == ("72.6", "92.2")
    own = find(paper=AMO, table="3", method=AMO, flag="not_comparable")
    assert len(own) == 6 and {row.setting for row in own} == {"supervised"}


def test_in_table_3_supervised_beats_zero_shot_and_quoted_rows_have_another_protocol():
    rows = find(paper=AMO, table="3")
    for dataset in ("kins", "cocoa_cls", "d2sa"):
        part = {(r.setting, r.method, r.figure): r.value for r in rows if r.dataset == dataset}
        assert part["supervised", AMO, "full"] > part["zero_shot", AMO, "full"]
        assert part["supervised", "C2F-Seg", "full"] > part["zero_shot", "C2F-Seg (retrained)", "full"]
        for (setting, method, figure), value in part.items():
            assert setting == "supervised" or figure == "full"
            assert figure == "full" or value < part[setting, method, "full"]
        others = [v for (s, m, f), v in part.items() if (s, f) == ("supervised", "full") and m != AMO]
        assert part["supervised", AMO, "full"] - max(others) >= 7.0  # as stated in the paper's text
    quoted = [row for row in rows if row.setting == "supervised" and row.method != AMO]
    assert {row.protocol for row in quoted} == {"c2f_post"}
    assert {row.modal_source for row in quoted if row.dataset == "kins"} == {"pred"}


def test_differences_stated_in_the_texts_follow_from_the_tables():
    def gain(table, variant, columns=slice(None)):
        ours, theirs = bucket_row(table, variant=variant), bucket_row(table, method="Pix2gestalt")
        return [round(a - b, 1) for a, b in zip(ours, theirs, strict=True)][columns]

    assert gain("2", "SDXL", slice(1, None)) == [1.7, 3.7, 5.4, 6.9, 8.0]
    assert gain("4", "SD1.5") == [25.7, 26.0, 26.5, 26.9, 26.1, 22.2]
    assert gain("5", "Flux", slice(1, None)) != [1.2, 3.3, 5.7, 8.4, 9.6]  # the repeated row: flagged
    whole, *without = (row.value for row in find(paper=FREE, table="7"))
    assert [round(whole - value, 1) for value in without] == [37.6, 5.6, 6.2]
    cost = {(row.method, row.variant, row.figure): row.value for row in find(paper=FREE, table="S1")}
    assert round(cost["Pix2gestalt", "", "memory_gb"] / cost[OURS, "SD2", "memory_gb"], 1) == 4.1
    assert round(cost["Pix2gestalt", "", "seconds"] / cost[OURS, "SD2", "seconds"]) == 19


def test_a_row_has_the_same_flag_in_all_papers_that_print_it():
    """Equal method, data set, training and prompts; without bucket tables, whose protocol is known."""
    kinds = {"zero_shot": "unseen", "tuning_free": "unseen"}
    flags = defaultdict(set)
    for row in load_published():
        if row.figure in ("full", "occluded") and row.setting != "ablation" and not row.protocol:
            key = row.method, row.variant, row.dataset, kinds.get(row.setting, row.setting), row.figure
            flags[key].add((row.flag, row.paper))
    several = {key: found for key, found in flags.items() if len({paper for _, paper in found}) > 1}
    assert {key[0] for key in several} == {"Pix2gestalt", "SAM", "SDXL-Inpainting"}
    for key, found in several.items():
        assert len({flag for flag, _ in found}) == 1, (key, found)


def test_every_row_of_the_protocol_conddiff_is_noted_as_a_ratio_of_sums():
    rows = find(protocol="conddiff")
    assert len(rows) == 2 + 2 + 6 + 3 + 22 and all("ratio of sums" in row.reason for row in rows)


def test_the_stated_zero_shot_gain_of_three_points_does_not_hold_on_d2sa():
    gains = {}
    for dataset in ("kins", "cocoa_cls", "d2sa"):
        values = {row.method: row for row in find(paper=AMO, table="3", setting="zero_shot", dataset=dataset)}
        best = max(row.value for name, row in values.items() if name != AMO)
        gains[dataset] = round(values[AMO].value - best, 2)
        assert ("2.87" in values[AMO].reason) == (gains[dataset] < 3.0)
    assert gains == {"kins": 3.62, "cocoa_cls": 3.49, "d2sa": 2.87}


def test_votes_and_shares_of_001_are_consistent_except_for_flagged_rows():
    first = [row.value for row in find(paper=MIXED, table="1", figure="preference")]
    assert sum(first) == pytest.approx(100)
    assert all(value == round(100 * round(55 * value / 100) / 55, 1) for value in first), "shares of 55 cases"
    for case, total, flag in (("easy", 102, "suspect"), ("hard", 100, "not_comparable")):
        rows = [row for row in find(paper=MIXED, table="2", figure="preference") if row.variant.startswith(case)]
        assert sum(row.value for row in rows) == total and {row.flag for row in rows} == {flag}
    assert all(row.value % 2 == 0 for row in find(paper=MIXED, table="2")), "shares of 50 cases"
    success = {row.variant: row.value for row in find(paper=MIXED, table="2", method="Mixed context", figure="success")}
    assert success["hard"] - success["hard, without mixed context"] == 18  # as the text says


def test_accuracy_follows_from_precision_and_recall_except_for_flagged_rows():
    for method, accuracy_follows, recall_counts in (
        ("Human consensus", True, False), ("Curation rule", False, True), ("Chance", True, True),
    ):  # fmt: skip
        rows = {row.figure: row for row in find(paper=MIXED, table="3", method=method)}
        found = 50 * rows["recall"].value
        wrong = found / rows["precision"].value - found
        assert (abs((found + 50 - wrong) / 100 - rows["accuracy"].value) < 0.01) == accuracy_follows
        assert (abs(found - round(found)) < 1e-6) == recall_counts
        suspect = {figure for figure, row in rows.items() if row.flag == "suspect"}
        assert suspect == (set() if method == "Chance" else {"recall"} if accuracy_follows else set(rows))


def test_mixed_context_is_best_in_table_1_of_001_except_for_one_number():
    lost = []
    for case, figure, dataset in itertools.product(
        ("easy", "hard"), ("clip", "dreamsim", "lpips"), ("coco_pseudo", "open_images_pseudo")
    ):
        rows = {r.method: r.value for r in find(paper=MIXED, table="1", variant=case, figure=figure, dataset=dataset)}
        best = max(rows.values()) if figure == "clip" else min(rows.values())
        lost += [(case, figure, dataset)] if rows["Mixed context"] != best else []
        assert set(rows) == {"Deocclusion", "LaMa", "Inst-Inpaint", "Mixed context"}
    assert lost == [("hard", "clip", "open_images_pseudo")]


def test_the_tables_of_diffoom_and_mrgd_agree_with_their_texts():
    figures = ("dino_op", "dino_tp", "clip_tp")
    for figure in figures:
        whole = one(paper=MOVE, table="2", method="DiffOOM", figure=figure)
        assert whole.printed == one(paper=MOVE, table="4", variant="nothing removed", figure=figure).printed
        better = min if figure == "dino_op" else max
        for table in ("2", "4"):
            assert whole.value == better(row.value for row in find(paper=MOVE, table=table, figure=figure))
    assert all(row.value > 50 for row in find(paper=MOVE, table="3"))
    worst = {
        figure: (max if figure == "dino_op" else min)(find(paper=MOVE, table="4", figure=figure), key=lambda r: r.value)
        for figure in figures
    }
    parts = [worst[figure].variant.removeprefix("without ") for figure in figures]
    assert parts == ["attention guidance", "latent resizing", "local text guidance"]
    for task in ("addition", "removal", "attribute"):
        rows = {(row.method, row.figure): row.value for row in find(paper=EDIT, table="1", variant=task)}
        for figure in ("ssim_e", "ssim_i"):
            assert rows["MRGD", figure] > rows["P2P*", figure] > rows["MultiDiffusion", figure]
        assert rows["MRGD", "clip"] < max(rows["P2P*", "clip"], rows["MultiDiffusion", "clip"])  # as the text says


def test_a_data_set_without_published_numbers_has_no_section():
    rows = [count_row(dataset="synthetic", object_id=str(number)) for number in range(2)]
    assert beside_published(summarize(rows), rows) == []


def count_row(**values):
    row = {name: "" if name in TEXT_COLUMNS else 0 for name in COLUMNS} | {"modal_source": "gt", "model": "modal"}
    sizes = {"height": 20, "width": 20, "modal_area": 60, "amodal_area": 100, "occluded_area": 40}
    hits = {f"{kind}_{part}": area for kind in ("raw", "post", "out") for part, area in (("inter", 80), ("union", 100))}
    hits |= {
        f"{kind}_{part}": area
        for kind in ("occ", "raw_occ", "post_occ")
        for part, area in (("inter", 20), ("union", 40))
    }
    return row | sizes | hits | {"split": "test", "image_id": row["object_id"]} | values


@pytest.fixture
def sections():
    def make(dataset, modal_source="gt"):
        rows = [
            count_row(dataset=dataset, object_id=str(n), image_id=str(n), modal_source=modal_source) for n in range(3)
        ]
        (section,) = beside_published(summarize(rows), rows)
        return section

    return make


def lines_of(tables, name):
    return [line for table in tables if table.title == name for line in table.lines]


def test_measured_and_published_rows_are_in_one_table_measured_ones_first(sections):
    section = sections("cocoa")
    assert section.title == "cocoa / test" and "3 objects of cocoa / test" in section.intro
    assert "no rank" not in section.intro  # the size of the split is not published
    (table,) = [table for table in section.tables if table.title == "pooled"]
    assert table.header == ["method", "pooled · full", "pooled · occluded"]
    first = [line[1].text for line in table.lines]
    assert first == ["80.0", "90.8", "88.9", "88.2", "88.0", "83.0", "–"]
    here = table.lines[0]
    assert here[0].text == "modal" and here[0].best and here[1].note == "80.0 – 80.0" and here[2].text == "50.0"
    assert [line[0].best for line in table.lines].count(True) == 1
    assert "the same figure as conddiff’s" in table.lines[1][0].note and table.lines[1][2].text == "–"
    assert "annotated modal masks" in table.lines[2][0].note and "table 1" in table.lines[2][0].note
    sdamodal = table.lines[-1]
    assert sdamodal[0].text == "SDAmodal" and sdamodal[1].note == "set apart" and sdamodal[2].text == "71.6"
    assert [cell.note for line in table.lines[1:-1] for cell in line[1:]] == [""] * 10
    buckets = lines_of(section.tables, "mean_bucket")
    mine = [line[0].note for line in buckets if line[0].text == "modal"]
    assert {note.rpartition(" · ")[2] for note in mine} == {"with unoccluded objects", "without unoccluded objects"}


@pytest.mark.parametrize(
    ("dataset", "split", "images", "warned"),
    [
        ("bsds_a", "test", 200, False),
        ("bsds_a", "val", 200, True),
        ("bsds_a", "test", 100, True),
        ("d2sa", "val", 3, False),
    ],
)
def test_a_split_or_part_different_from_the_papers_is_reported(dataset, split, images, warned):
    rows = [count_row(dataset=dataset, split=split, object_id=str(n), image_id=str(n)) for n in range(images)]
    (section,) = beside_published(summarize(rows), rows)
    said = f"200 images of the split test; measured here: {images} images of {split}" in section.intro
    assert said == warned == ("measured here:" in section.intro)


@pytest.mark.parametrize(("split", "count", "warned"), [("val", 3, True), ("val", 12_753, False), ("test", 3, False)])
def test_a_part_of_the_published_split_is_reported(split, count, warned):
    rows = [count_row(dataset="cocoa", split=split)]
    results = [{**result, "num_objects": count} for result in summarize(rows)]
    (section,) = beside_published(results, rows)
    assert ("reported to have 12,753 objects" in section.intro) == warned


def test_flagged_rows_unknown_protocols_and_ablations_are_shown_separately(sections):
    section = sections("cocoa")
    (apart,) = lines_of(section.apart, "pooled")
    assert apart[0].text == "SDAmodal" and apart[1].text == "90.7" and "90.4" in apart[0].note
    unknown = [line[0] for line in lines_of(section.apart, "protocol not stated")]
    assert {"HORI", "GMC", "DiT-XL", "Pix2gestalt"} <= {cell.text for cell in unknown}
    assert all("ablation" not in cell.note for cell in unknown)
    (wild,) = lines_of(section.apart, "mean_bucket")
    assert wild[0].text == "AmodalWild" and [cell.text for cell in wild[1:]] == ["92.2"]
    (kept,) = [line for line in lines_of(section.tables, "mean_bucket") if line[0].text == "AmodalWild"]
    assert kept[-1].text == "–", "the suspect value is not there as well"
    folded = [line for table in section.ablations for line in table.lines]
    assert len(folded) == 11 + 6 + 4 + 1 + 9 + 4 and all("ablation" in line[0].note for line in folded)
    shown = sum(len(line) - 1 - [c.text for c in line].count("–") for t in section.apart for line in t.lines)
    shown += sum(
        len(line) - 1 - [c.text for c in line].count("–")
        for table in section.tables
        for line in table.lines
        if not line[0].best and "the same figure as" not in line[0].note
    )
    assert shown == len([row for row in find(dataset="cocoa") if row.setting != "ablation"]), "no number is lost"


def test_rows_with_another_source_of_modal_masks_are_shown_separately(sections):
    annotated, predicted = sections("kins"), sections("kins", "pred:detector")
    names = ["C2F-Seg", "AISFormer", "VRSP", "Deocclusion_One"]
    assert [line[0].text for line in lines_of(annotated.apart, "c2f_post")] == names
    why = lines_of(annotated.apart, "c2f_post")[0][0].note
    assert "predicted modal masks" in why and why.endswith("annotated modal masks are given here")
    assert not lines_of(annotated.tables, "c2f_post")
    shown = [line[0].text for line in lines_of(predicted.tables, "c2f_post")]
    assert shown == ["modal", *names]
    own = lines_of(annotated.apart, "conddiff")
    assert len(own) == 1 and "not comparable" in own[0][0].note
