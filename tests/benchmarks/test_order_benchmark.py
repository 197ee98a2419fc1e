"""The benchmark of occlusion order: which pairs are evaluated, their ground truth, and a table."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from amodalseg import read_dataset
from amodalseg.metrics.order import touching
from tests.worlds import cocoa_world

spec = importlib.util.spec_from_file_location("benchmark_order", Path(__file__).parents[2] / "benchmarks/order.py")
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


def square(top, left, height, width):
    mask = np.zeros((40, 60), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def photo(nearer=None):
    """A table, a book on it (which occludes a part), a lamp next to it (which occludes nothing), and a distant ball."""
    table, book, lamp, ball = square(20, 5, 15, 25), square(15, 10, 10, 8), square(10, 31, 25, 5), square(2, 50, 5, 5)
    amodal = [table, book, lamp, ball]
    modal = [table & ~book, book, lamp, ball]
    return program.Photo(
        "a", np.zeros((40, 60, 3), np.uint8), modal, amodal, np.zeros((4, 4), int) if nearer is None else nearer
    )


def test_evaluated_pairs_and_their_true_order():
    one = photo()
    assert program.asked(one) == [(0, 1), (0, 2)]
    found = program.truth(one)
    assert found[1, 0] == 1 and found[0, 1] == -1 and np.count_nonzero(found) == 2
    assert touching(one.modal)[0, 2] and not touching(one.modal, 0)[0, 2] and not touching(one.modal)[3].any()


def test_the_annotated_order_takes_precedence():
    nearer = np.zeros((4, 4), int)
    nearer[0, 1], nearer[1, 0] = 1, -1  # annotated: the table is in front
    assert not program.truth(photo(nearer)).any(), "and nothing of the book is hidden"
    assert program.truth(photo(-nearer))[1, 0] == 1


def test_trivial_rules():
    one = photo()
    assert program.by_rule(one, "larger in front")[0, 1] == 1 == program.by_rule(one, "smaller in front")[1, 0]
    assert program.by_rule(one, "lower in front")[0, 3] == 1


def test_annotated_photos_are_split_by_annotator_and_keep_their_order(tmp_path):
    records = read_dataset("cocoa", cocoa_world(tmp_path / "cocoa"))
    photos = list(program.annotated(records))
    assert photos and all(len(one.modal) > 1 for one in photos)
    for one in photos:
        assert np.array_equal(one.nearer, -one.nearer.T)
    first = [record for record in records if record.image_id == photos[0].name]
    assert photos[0].nearer[0, 1] == np.sign(first[1].order - first[0].order)


def test_the_benchmark_prints_its_table(tmp_path, capsys):
    (tmp_path / "drawn.yaml").write_text("models: [modal]\ndata: {name: synthetic, size: 64, num_objects: 8}\n")
    root, out = cocoa_world(tmp_path / "cocoa"), tmp_path / "order.json"
    given = ["modal", "convex_hull", f"--scenes={tmp_path / 'drawn.yaml'}", f"--sets=cocoa={root}", f"--out={out}"]
    assert program.main(given) == 0
    told = json.loads(out.read_text())
    for rows in told.values():
        assert set(rows) == {*program.RULES, "modal", "convex_hull"}
        for cells in rows.values():
            assert cells["all"]["pairs"] == cells["hidden"]["pairs"] + cells["none"]["pairs"] > 0
        assert rows["modal"]["hidden"]["value"] == 0, "whoever completes nothing sees no order"
        sums = [rows[rule]["hidden"]["value"] for rule in program.RULES[:2]]
        assert sum(sums) == pytest.approx(1, abs=0.2)
    assert "| convex_hull | " in capsys.readouterr().out
    assert program.main([]) == 2
