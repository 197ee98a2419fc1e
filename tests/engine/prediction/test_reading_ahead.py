"""Photos are read while the model computes: in order, each once, a few at a time."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from amodalseg.engine.prediction import complete as module
from amodalseg.engine.prediction.complete import Item, Settings, complete
from amodalseg.errors import UserError
from amodalseg.models import load_model

PHOTOS = [Path(f"{number}.png") for number in range(12)]


@pytest.fixture
def reads(monkeypatch):
    """Records which photos are read, and by which thread."""
    found = []

    def load(path, upright):
        found.append((path, threading.current_thread().name))
        if path.stem == "5":
            raise UserError("photo 5 is broken")
        return np.full((20, 20, 3), int(path.stem), np.uint8), 1

    monkeypatch.setattr(module, "load_turned", load)
    return found


def run(num_workers, batch_size=2, on_keep=lambda path: None):
    modal, seen = np.zeros((20, 20), bool), []
    modal[5:15, 5:15] = True

    def keep(path, photo, prediction):
        seen.append((path, int(photo[0, 0, 0])))
        on_keep(path)

    photos = [path for path in PHOTOS for _ in range(3)]
    items = [Item(str(path), path, 0, lambda photo, turn: modal, partial(keep, path)) for path in photos]
    model = load_model("modal")
    model.batch_size = batch_size
    return complete(model, items, Settings(num_workers=num_workers)), seen


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_each_object_gets_its_photo_and_each_photo_is_read_once(reads, num_workers):
    failures, seen = run(num_workers)
    assert [path for path, _ in seen] == [path for path in PHOTOS if path.stem != "5" for _ in range(3)]
    assert all(int(path.stem) == shown for path, shown in seen)
    assert [line for line in failures if "photo 5 is broken" in line] == failures and len(failures) == 3
    assert sorted(path for path, _ in reads) == sorted(PHOTOS)
    assert all(name.startswith("photos") == bool(num_workers) for _, name in reads)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_number_of_photos_read_ahead_is_limited(reads, num_workers):
    ahead = []
    run(num_workers, batch_size=1, on_keep=lambda path: ahead.append(len(reads) - int(path.stem)))
    # num_workers + 1 are waiting; in addition one is being stored, one predicted and one opened
    assert max(ahead) <= num_workers + 3


def test_threads_end_after_an_exception(reads):
    def stop(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(2, on_keep=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("photos", "batches"))]


def test_predictions_are_stored_while_the_model_predicts(reads):
    model, order = load_model("modal"), []
    model.batch_size = 1
    second = threading.Event()

    def predict(queries, **options):
        order.append(threading.current_thread().name)
        if len(order) == 2:
            assert second.wait(20), "the first prediction is not kept before the second one is made"
        return type(model).predict_batch(model, queries, **options)

    model.predict_batch = predict
    modal = np.ones((20, 20), bool)
    items = [Item(str(path), path, 0, lambda photo, turn: modal, lambda *_: second.set()) for path in PHOTOS[:3]]
    assert complete(model, items, Settings()) == []
    assert order == ["MainThread"] * 3, "Ctrl-C must reach the model"
