"""Batches that do not fit into memory, and the measured peak memory."""

import mmap
import warnings

import numpy as np
import pytest
import torch

from amodalseg import UserError
from amodalseg.engine.evaluation import ask as asking
from amodalseg.engine.evaluation.ask import PeakMemory, ask
from amodalseg.models.geometric.model import ModalCopy
from amodalseg.types import Query


class Hungry(ModalCopy):
    """Fails with the given error for more than ``room`` samples at a time."""

    name = "hungry"

    def __init__(self, room, error):
        self.room, self.error, self.asked = room, error, []

    def predict_batch(self, queries, *, num_samples=1, steps=None):
        self.asked.append(len(queries))
        if min(self.batch_size, len(queries) * num_samples) > self.room:
            raise self.error
        return super().predict_batch(queries)


def queries(count):
    made = []
    for number in range(count):
        modal = np.zeros((12, 20), bool)
        modal[0, : number + 1] = True
        made.append(Query(np.zeros((12, 20, 3), np.uint8), modal))
    return made


ERRORS = [
    MemoryError("Unable to allocate 9 GiB"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:12])
def test_a_batch_that_does_not_fit_is_halved_permanently(error):
    model = Hungry(3, error)
    with pytest.warns(UserWarning) as told:
        found = ask(model, queries(10))
    assert [str(warning.message) for warning in told] == [
        "'hungry' ran out of memory on 10 at once; continuing with 5",
        "'hungry' ran out of memory on 5 at once; continuing with 2",
    ]
    assert [int(prediction.modal.sum()) for prediction, _ in found] == list(range(1, 11))
    assert model.asked == [10, 5, 2, 2, 2, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ask(model, queries(4))) == 4, "the next batch begins with what fits"
    assert Hungry.batch_size == 16, "other models keep theirs"


def test_the_batch_size_accounts_for_samples_per_object():
    model = Hungry(2, MemoryError())
    with pytest.warns(UserWarning) as told:
        assert len(ask(model, queries(2), num_samples=4)) == 2
    assert [str(warning.message).split(";")[1] for warning in told] == [" continuing with 4", " continuing with 2"]
    assert model.batch_size == 2


def test_one_object_that_does_not_fit_is_one_clear_line():
    text = r"'hungry' runs out of memory on one object alone \(photo of 20x12"
    with pytest.warns(UserWarning, match="on 3 at once"), pytest.raises(UserError, match=text) as caught:
        ask(Hungry(0, MemoryError()), queries(3))
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_treated_as_out_of_memory():
    model = Hungry(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        ask(model, queries(3))
    assert model.asked == [3]


@pytest.mark.skipif(not asking.RESET.exists(), reason="this system does not tell a process's peak memory")
def test_the_peak_is_measured_within_the_block():
    with PeakMemory(ModalCopy()) as before:
        pass
    with PeakMemory(ModalCopy()) as peak:  # noqa: SIM117
        with mmap.mmap(-1, 240 << 20) as held:  # new pages, not memory that the process has freed before
            for _ in range(240):
                held.write(b"1" * (1 << 20))
    with PeakMemory(ModalCopy()) as after:
        pass
    assert 200 < peak.megabytes - before.megabytes < 300
    assert peak.megabytes - after.megabytes > 200, "an earlier block's peak is forgotten"


def test_a_peak_that_cannot_be_measured_is_zero(monkeypatch, tmp_path):
    monkeypatch.setattr(asking, "RESET", tmp_path / "absent" / "clear_refs")
    with PeakMemory(ModalCopy()) as peak:
        pass
    assert peak.megabytes == 0


def test_on_a_gpu_its_memory_is_measured(monkeypatch):
    class OnGpu(ModalCopy):
        device = "cuda:0"

    resets = []
    for name, value in {"is_initialized": True, "max_memory_allocated": 3_000_000_000}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(1))
    with PeakMemory(OnGpu()) as peak:
        pass
    assert (peak.megabytes, resets) == (3000, [1])
    with PeakMemory(ModalCopy()) as peak:  # a model without a network
        pass
    assert peak.megabytes != 3000 and resets == [1]
