"""Messages stay short whatever they quote from a file."""

import pickle

import pytest

from amodalseg.engine.evaluation.collect import read_predictions
from amodalseg.errors import LONGEST, UserError


def test_a_long_message_is_shortened_in_the_middle():
    error = UserError(f"{'a' * 9000}; take another file")
    assert len(str(error)) < LONGEST and str(error).startswith("aaa") and str(error).endswith("; take another file")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(UserError("short")) == "short" and not str(UserError())


def test_deeply_nested_predictions_are_refused(tmp_path):
    (tmp_path / "predictions.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not a file of predictions"):
        read_predictions(tmp_path / "predictions.json", [("modal", "a")])
