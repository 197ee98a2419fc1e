"""Distribution of objects: disjoint ranks, exact resuming, batches that do not depend on the number of ranks."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from amodalseg import read_dataset
from amodalseg.config.load import load_config
from amodalseg.config.schema import AugmentConfig, TrainConfig, WindowConfig
from amodalseg.data.data_module import AmodalDataModule, RunSampler, batches_of_rank, collate
from amodalseg.data.dataset import TrainingSet
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.source import RecordList
from amodalseg.data.window import crop_mask, object_window
from amodalseg.types import Sample

ROOT = Path(__file__).parents[2]


def stream(num_objects=10, batch_size=3, num_batches=7, seed=0, rank=0, world=1, start=0):
    batches = RunSampler(num_objects, batch_size, num_batches, seed, rank, world, lambda: start, lambda number: 64)
    assert all(size == 64 for batch in batches for *_, size in batch)
    return [[(epoch, index) for epoch, index, _ in batch] for batch in batches]


def test_the_first_part_of_a_run_uses_coarser_windows():
    options = ["data.num_objects=8", "optim.early_size=32", "optim.early_share=0.4", "trainer.max_steps=5"]
    config = load_config(TrainConfig, ROOT / "configs/experiment/synthetic_tiny.yaml", options)
    config.loader.batch_size, config.loader.num_workers = 2, 0
    data, full = AmodalDataModule(config), config.model.window.size
    for start in (0, 1, 3):  # also when the run resumes from a checkpoint
        module = SimpleNamespace(elapsed_share=0.0)
        data.trainer = SimpleNamespace(global_step=start, global_rank=0, world_size=1, lightning_module=module)
        sides = [batch.image.shape[-1] for batch in data.train_dataloader()]
        assert sides == [32, 32, full, full, full][start:]


def test_every_epoch_is_a_permutation():
    keys = list(itertools.chain(*stream(num_objects=6, batch_size=4, num_batches=6)))
    assert len(keys) == 24
    for epoch in range(4):
        part = keys[6 * epoch : 6 * epoch + 6]
        assert [e for e, _ in part] == [epoch] * 6
        assert sorted(i for _, i in part) == list(range(6))
    orders = [tuple(i for e, i in keys if e == epoch) for epoch in range(4)]
    assert len(set(orders)) > 1


def test_ranks_get_disjoint_objects_and_together_those_of_one_process():
    whole = stream(num_objects=12, batch_size=6, num_batches=4)
    ranks = [stream(num_objects=12, batch_size=2, num_batches=4, rank=rank, world=3) for rank in range(3)]
    for step in range(4):
        together = [key for rank in ranks for key in rank[step]]
        assert together == whole[step]
        assert len(set(together)) == 6


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_resumed_run_continues_the_stream_of_batches(start):
    assert stream(start=start) == stream()[start:]


def test_different_seeds_give_different_orders():
    assert stream(seed=0) != stream(seed=1)


@pytest.mark.parametrize(("count", "world"), [(10, 3), (1, 4), (8, 2), (0, 2)])
def test_evaluation_batches_are_the_same_on_any_number_of_ranks(count, world):
    alone = batches_of_rank(count, 4, 0, 1)
    shared = [batches_of_rank(count, 4, rank, world) for rank in range(world)]
    assert sorted(batch for rank in shared for batch in rank) == sorted(alone)
    assert sorted(itertools.chain(*alone)) == list(range(count))


def test_a_batch_is_two_uint8_tensors():
    rng = np.random.default_rng(0)
    samples = [
        Sample(rng.integers(0, 256, (32, 32, 3), np.uint8), rng.integers(0, 2, (4, 32, 32), np.uint8), f"k{i}")
        for i in range(3)
    ]
    batch = collate(samples)
    assert batch.image.shape == (3, 3, 32, 32) and str(batch.image.dtype) == "torch.uint8"
    assert batch.masks.shape == (3, 4, 32, 32) and str(batch.masks.dtype) == "torch.uint8"
    np.testing.assert_array_equal(batch.image[1].permute(1, 2, 0).numpy(), samples[1].image)
    assert batch.keys == ["k0", "k1", "k2"]


def test_a_sample_contains_the_occluder_of_its_object():
    still = AugmentConfig(flip=1.0, scale=0, shift=0, color=0)
    records, window = read_dataset("synthetic", num_objects=4, size=64), WindowConfig(size=64)
    for augment in (None, still):
        samples = TrainingSet(RecordList(records), window, augment, 0, False)
        for index, record in enumerate(records):
            modal, amodal, _, occluder = samples[0, index].masks.astype(bool)
            expected = crop_mask(record.occluder, object_window(record.modal, window))
            assert expected.any() and np.array_equal(occluder, expected if augment is None else expected[:, ::-1])
            assert np.array_equal(modal, amodal & ~occluder), "what hides the object is where it is hidden"
    nobody_knows = TrainingSet(RecordList([replace(records[0], occluder_rle=None)]), window, still, 0, False)
    assert not nobody_knows[0, 0].masks[3].any()


def test_the_data_module_gives_disjoint_objects_to_two_ranks():
    config = load_config(TrainConfig, ROOT / "configs/experiment/synthetic_tiny.yaml", ["data.num_objects=8"])
    config.loader.batch_size, config.trainer.max_steps = 2, 2
    seen = []
    for rank in range(2):
        data = AmodalDataModule(config)
        data.trainer = SimpleNamespace(global_step=0, global_rank=rank, world_size=2)
        seen.append([key for batch in data.train_dataloader() for key in batch.keys])
    assert len(seen[0]) == len(seen[1]) == 4
    assert not set(seen[0]) & set(seen[1])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_data_do_not_depend_on_the_number_of_workers(num_workers):
    config = load_config(TrainConfig, ROOT / "configs/experiment/synthetic_tiny.yaml", ["data.num_objects=8"])
    config.loader.batch_size, config.trainer.max_steps, config.loader.num_workers = 3, 3, num_workers
    data = AmodalDataModule(config)
    data.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    batches = list(data.train_dataloader())
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 9 and len(set(keys)) == 9  # a new epoch shows the first object in a new scene
    total = sum(int(batch.image.sum()) + 7 * int(batch.masks.sum()) for batch in batches)
    reference = TrainingSet(SyntheticWorld(config.data), config.model.window, config.augment, config.seed, True)
    size = config.model.window.size
    sampler = RunSampler(8, 3, 3, config.seed, 0, 1, lambda: 0, lambda _: size)
    again = [reference[key] for batch in sampler for key in batch]
    assert total == sum(int(s.image.sum()) + 7 * int(s.masks.sum()) for s in again)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_coarse_part_is_a_share_of_all_micro_batches(accumulate):
    options = ["data.num_objects=8", "optim.early_size=32", "optim.early_share=0.5", "trainer.max_steps=4"]
    config = load_config(TrainConfig, ROOT / "configs/experiment/synthetic_tiny.yaml", options)
    config.loader.batch_size, config.loader.num_workers, config.trainer.accumulate = 1, 0, accumulate
    data, full = AmodalDataModule(config), config.model.window.size
    for start in (0, 1):  # optimiser steps done
        module = SimpleNamespace(elapsed_share=0.0)
        data.trainer = SimpleNamespace(global_step=start, global_rank=0, world_size=1, lightning_module=module)
        sides = [batch.image.shape[-1] for batch in data.train_dataloader()]
        assert sides == ([32] * 2 * accumulate + [full] * 2 * accumulate)[start * accumulate :]
