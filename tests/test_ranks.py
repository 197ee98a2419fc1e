"""Which process of a run writes, for each launcher."""

import pytest

from amodalseg.ranks import is_first_process


@pytest.mark.parametrize(
    ("launched", "first"),
    [
        ({}, True),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "8", "LOCAL_RANK": "0"}, False),  # srun, in a script that sets LOCAL_RANK
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1", "NODE_RANK": "0"}, False),  # in an interactive session of SLURM
        ({"NODE_RANK": "1"}, False),  # a second machine, started by hand
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),  # torchrun below srun
        ({"RANK": "3", "LOCAL_RANK": "3", "SLURM_PROCID": "0"}, False),
    ],
)
def test_the_first_process_however_the_run_was_launched(monkeypatch, launched, first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, rank in launched.items():
        monkeypatch.setenv(name, rank)
    assert is_first_process() is first
