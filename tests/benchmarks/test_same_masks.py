"""Two files of predictions are compared pixel by pixel."""

import json

import numpy as np
import pytest

from benchmarks.same_masks import main
from tests.worlds.drawing import compressed


def written(path, *shapes):
    entries = [{"id": 5 + place, "image_id": 1, "segmentation": compressed(one)} for place, one in enumerate(shapes)]
    path.write_text(json.dumps({"annotations": entries}))
    return str(path)


def test_pixels_that_differ_are_counted(tmp_path, capsys):
    box, other = np.zeros((100, 200), bool), np.zeros((100, 200), bool)
    box[10:20, 10:20] = other[10:20, 10:20] = True
    other[20, 10:13] = True
    one = written(tmp_path / "one.json", box, box)
    assert main([one, written(tmp_path / "same.json", box, box)]) == 0
    assert "2 objects: 100.0000 % of 40,000 pixels are the same; 0 differ" in capsys.readouterr().out
    assert main([one, written(tmp_path / "close.json", box, other)]) == 0
    assert "99.9925 %" in (line := capsys.readouterr().out)
    assert "3 differ, 1.4778 % of the masks' area, in 1 objects" in line
    other[50, :2] = True
    assert main([one, written(tmp_path / "far.json", box, other)]) == 1


def test_predictions_of_different_objects_are_refused(tmp_path):
    box = np.ones((4, 4), bool)
    with pytest.raises(SystemExit):
        main([written(tmp_path / "one.json", box), written(tmp_path / "two.json", box, box)])
