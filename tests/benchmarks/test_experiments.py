"""The experiments: every row is a valid configuration that differs from its reference, and the table's arithmetic."""

import numpy as np
import pytest

from amodalseg.config.load import load_config, own_options, to_dict
from amodalseg.config.schema import EvalConfig, TrainConfig
from benchmarks import experiments as program

ROWS = [(group, row) for group, rows in program.TRAINED.items() for row in rows]


@pytest.mark.parametrize(("group", "row"), ROWS)
def test_every_trained_row_is_a_valid_and_distinct_configuration(group, row):
    rows = program.TRAINED[group]
    found = []
    for changes in (next(iter(rows.values())), rows[row]):
        recipe, own = program.split_recipe(changes)
        found.append(to_dict(load_config(TrainConfig, program.ROOT / recipe, ["out=unused", *program.SHORT, *own])))
    first, this = found
    assert (this == first) == (row == next(iter(rows)))
    assert list(rows.values()).count([]) == 1


def test_the_controls_differ_in_the_model_only():
    for changes in program.TRAINED["controls"].values():
        recipe, own = program.split_recipe(changes)
        found = to_dict(load_config(TrainConfig, program.ROOT / recipe, ["out=unused", *own]))
        reference = to_dict(load_config(TrainConfig, program.ROOT / program.RECIPE, ["out=unused"]))
        one, other = found.pop("model"), reference.pop("model")
        assert found == reference
        parts = set(one) & set(other) - {"name", "pcn"}
        assert {part: one[part] for part in parts} == {part: other[part] for part in parts} and "loss" in parts
        assert one.get("pcn", {}).items() <= other["pcn"].items(), "direct has the same pyramid without noise and time"


def test_every_prediction_override_belongs_to_a_trained_row_and_is_valid_for_its_model():
    for group, rows in program.PREDICTED_WITH.items():
        assert set(rows) <= set(program.TRAINED[group])
        for row, ways in rows.items():
            recipe, own = program.split_recipe(program.TRAINED[group][row])
            model = load_config(TrainConfig, program.ROOT / recipe, ["out=unused", *own]).model
            for changes in ways.values():
                override = load_config(EvalConfig, program.ROOT / program.SETS["photos"], changes).override
                assert own_options(model, override) == override != {}


@pytest.mark.parametrize("row", program.SAMPLED)
def test_every_sampled_row_is_a_valid_override(row):
    config = load_config(EvalConfig, program.ROOT / program.SETS["photos"], program.SAMPLED[row])
    assert (config.override == {}) == (program.SAMPLED[row] == [])


def test_row_names_are_unique():
    for rows in (*program.TRAINED.values(), program.SAMPLED):
        assert len({program.slug(row) for row in rows}) == len(rows)


def test_the_interval_resamples_whole_photos():
    rng = np.random.default_rng(0)
    of_photo = np.repeat(rng.normal(1, 1, 50), 8)  # eight equal objects in each photo
    names = np.repeat([f"p{i}" for i in range(50)], 8)
    low, high = program.interval(of_photo, list(names))
    single_low, single_high = program.interval(of_photo, [str(i) for i in range(400)])
    assert low < of_photo.mean() < high
    # eight equal objects carry the information of one: the interval is wider by the square root of eight
    assert (high - low) / (single_high - single_low) == pytest.approx(np.sqrt(8), rel=0.15)


def test_differences_are_paired():
    keys = [("set", f"p{i}", "0") for i in range(20)]
    hard = {key: (0.01 * i, 0.02 * i) for i, key in enumerate(keys)}
    better = {key: (full + 0.01, occluded + 0.03) for key, (full, occluded) in hard.items()}
    table = program.markdown({"reference": hard, "better": better}).splitlines()
    assert table[0] == "| | occluded (20) | full (20) | occluded, difference | full, difference |"
    assert table[2] == "| reference | 19.0 | 9.5 |  |  |"
    assert table[3] == "| better | 22.0 | 10.5 | +3.0 [+3.0, +3.0] | +1.0 [+1.0, +1.0] |"


def test_unoccluded_objects_have_a_separate_column():
    first = {("a", "p0", "0"): (0.5, 0.25), ("a", "p1", "0"): (0.9, None), ("b", "p1", "0"): (0.7, None)}
    grown = first | {("a", "p1", "0"): (0.7, None), ("b", "p1", "0"): (0.5, None)}
    table = program.markdown({"first": first, "grown": grown}).splitlines()
    assert table[0].startswith("| | occluded (1) | full (1) | unoccluded (2) |")
    assert table[2] == "| first | 25.0 | 50.0 | 80.0 |  |  |  |"
    assert table[3].endswith("| 60.0 | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | -20.0 [-20.0, -20.0] |")


def test_rows_of_different_objects_are_not_compared():
    with pytest.raises(AssertionError, match="other objects"):
        program.markdown({"a": {("s", "p", "0"): (0.5, 0.5)}, "b": {("s", "q", "0"): (0.5, 0.5)}})
