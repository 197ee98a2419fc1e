"""Two models object by object, against slow transcriptions."""

from fractions import Fraction

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.metrics.counts import count_object, row_key
from amodalseg.metrics.paired import Tally, differences, largest_changes, pair_rows, tally
from amodalseg.metrics.protocols import score
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord


def disc(x, y, radius):
    rows, columns = np.mgrid[:40, :50]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def rows_of(model, noise, seed, images=7, dataset="discs"):
    """Rows of a model whose discs are shifted by up to ``noise`` pixels; every third object is unoccluded."""
    rng, found = np.random.default_rng(seed), []
    shape = np.random.default_rng(5)
    for number in range(3 * images):
        x, y, radius = *shape.integers(14, 30, 2).tolist(), int(shape.integers(5, 12))
        amodal = disc(x, y, radius)
        modal = amodal & ((np.arange(50)[None] <= x + 2) | (number % 3 == 0))
        record = AmodalRecord(
            dataset, "val", str(number // 3), str(number), np.zeros((40, 50, 3), np.uint8), masks.encode(modal),
            masks.encode(amodal),
        )  # fmt: skip
        raw = disc(x + rng.integers(-noise, noise + 1), y, radius + rng.integers(-noise, noise + 1))
        found.append(count_object(record, Prediction(modal, raw[None]), model))
    return found


@pytest.fixture(scope="module")
def pairs():
    return pair_rows(rows_of("rough", 5, 0), rows_of("fine", 2, 1))["discs", "val"]


def test_objects_are_paired_by_key_whatever_their_order():
    a, b = rows_of("a", 3, 0), rows_of("b", 3, 1)
    extra = [row | {"object_id": "99"} for row in b[:1]]
    found = pair_rows(a[2:], [*b[::-1], *extra])["discs", "val"]
    assert [row_key(row) for row in found.a] == [row_key(row) for row in found.b] == [row_key(row) for row in a[2:]]
    assert (found.only_a, found.only_b) == (0, 3)


def test_data_sets_are_paired_separately_and_unpaired_ones_reported():
    a = [*rows_of("a", 3, 0), *rows_of("a", 3, 0, 2, "more")]
    b = [*rows_of("b", 3, 1), *rows_of("b", 3, 1, 1, "other")]
    found = pair_rows(a, b)
    counts = {part: (len(p.a), p.only_a, p.only_b) for part, p in found.items()}
    assert counts == {("discs", "val"): (21, 0, 0), ("more", "val"): (0, 6, 0), ("other", "val"): (0, 0, 3)}
    assert differences(found["more", "val"]) == []


@pytest.mark.parametrize("name", ["amodal_area", "occluded_area", "height"])
def test_different_ground_truths_are_refused(name):
    a, b = rows_of("a", 3, 0), rows_of("b", 3, 1)
    b[4] = b[4] | {name: b[4][name] + 1}
    b[7] = b[7] | {name: b[7][name] + 1}
    text = rf"discs/val/1/4 .* {name} is {a[4][name]} in A and {b[4][name]} in B \(2 of 21 objects differ\)"
    with pytest.raises(UserError, match=text):
        pair_rows(a, b)


def test_rows_without_common_objects_are_refused():
    with pytest.raises(UserError, match=r"no objects in common: A holds discs/val/0/0, .* B holds other/val/0/0"):
        pair_rows(rows_of("a", 3, 0), rows_of("b", 3, 1, dataset="other"))


def test_figures_and_intervals_equal_a_slow_transcription(pairs):
    found = {(d.protocol, d.figure): d for d in differences(pairs, samples=40, seed=3)}
    scores = [score(rows) for rows in (pairs.a, pairs.b)]
    defined = {
        (protocol, name)
        for protocol, figures in scores[0].items()
        for name, value in figures.items()
        if not name.startswith("num_") and value is not None and scores[1][protocol][name] is not None
    }
    assert found.keys() == defined and len(defined) > 20
    images = sorted({row["image_id"] for row in pairs.a})
    drawings = np.random.default_rng(3).integers(len(images), size=(40, len(images)))
    changes = {name: [] for name in found}
    for drawing in drawings:
        sides = []
        for rows in (pairs.a, pairs.b):
            drawn = [
                row | {"image_id": f"{copy}"}
                for copy, place in enumerate(drawing)
                for row in rows
                if row["image_id"] == images[place]
            ]
            sides.append(score(drawn))
        for protocol, name in found:
            a, b = (side[protocol][name] for side in sides)
            if a is not None and b is not None:
                changes[protocol, name].append(b - a)
    for (protocol, name), d in found.items():
        assert (d.a, d.b) == pytest.approx((scores[0][protocol][name], scores[1][protocol][name]), abs=1e-12)
        low, high = np.quantile(changes[protocol, name], [0.025, 0.975])
        assert (d.low, d.high) == pytest.approx((low, high), abs=1e-9), (protocol, name)


def test_verdicts(pairs):
    main = {(d.protocol, d.figure): d for d in differences(pairs)}["per_object", "full"]
    assert main.b > main.a and main.low > 0 and main.verdict == "B is higher"
    swapped = pairs._replace(a=pairs.b, b=pairs.a)
    back = {(d.protocol, d.figure): d for d in differences(swapped)}["per_object", "full"]
    assert (back.low, back.high) == pytest.approx((-main.high, -main.low)) and back.verdict == "A is higher"
    same = differences(pairs._replace(b=pairs.a))
    assert {d.verdict for d in same} == {"equal"}
    assert main._replace(low=-0.01).verdict == "undecided: the interval holds 0"
    one = pair_rows(pairs.a[:3], pairs.b[:3])["discs", "val"]
    assert {d.verdict for d in differences(one)} == {"one image only: no interval"}
    hides = [row["image_id"] == pairs.a[0]["image_id"] for row in pairs.a]  # only one image has a hidden part
    sides = [
        [row if own else row | {"occluded_area": 0, "occ_inter": 0} for row, own in zip(rows, hides, strict=True)]
        for rows in (pairs.a, pairs.b)
    ]
    found = {(d.protocol, d.figure): d.verdict for d in differences(pairs._replace(a=sides[0], b=sides[1]))}
    assert found["per_object", "occluded"] == "one image only: no interval" != found["per_object", "full"]


def test_wins_and_ties_are_exact(pairs):
    def iou(row, kind):
        return Fraction(row[f"{kind}_inter"], row[f"{kind}_union"]) if row[f"{kind}_union"] else Fraction(1)

    for name, kind in (("full", "out"), ("occluded", "occ")):
        both = [(a, b) for a, b in zip(pairs.a, pairs.b, strict=True) if name == "full" or a["occluded_area"]]
        a = sum(iou(one, kind) > iou(other, kind) for one, other in both)
        b = sum(iou(one, kind) < iou(other, kind) for one, other in both)
        assert tally(pairs)[name] == Tally(a, b, len(both) - a - b)
        assert b > a > 0
    third = pairs.a[:1]
    twice = [row | {"out_inter": 2 * row["out_inter"], "out_union": 2 * row["out_union"]} for row in third]
    assert tally(pairs._replace(a=third, b=twice))["full"] == Tally(0, 0, 1)


def test_largest_changes_in_both_directions(pairs):
    def change(pair):
        values = [row["occ_inter"] / row["occ_union"] for row in pair]
        return values[1] - values[0]

    gains, losses = largest_changes(pairs, 3)
    hidden = [(a, b) for a, b in zip(pairs.a, pairs.b, strict=True) if a["occluded_area"]]
    ranked = sorted(map(change, hidden))
    assert [change(pair) for pair in gains] == ranked[::-1][:3] and ranked[-1] > 0
    assert [change(pair) for pair in losses] == [value for value in ranked[:3] if value < 0]
    assert largest_changes(pairs._replace(b=pairs.a), 3) == ([], [])
    whole = [row | {"occluded_area": 0} for row in pairs.a], [row | {"occluded_area": 0} for row in pairs.b]
    gains, _ = largest_changes(pairs._replace(a=whole[0], b=whole[1]), 1)
    best = max(b["out_inter"] / b["out_union"] - a["out_inter"] / a["out_union"] for a, b in zip(*whole, strict=True))
    ((a, b),) = gains
    assert b["out_inter"] / b["out_union"] - a["out_inter"] / a["out_union"] == best
