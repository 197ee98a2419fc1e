"""Damaged files of every readable kind, reproducible: read or refused, in time, and nothing is executed."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.canary import Canary
from benchmarks.fuzz import Fuzz
from benchmarks.fuzz_targets import Target, targets

SLOW = ("model", "checkpoint")
"""Kinds whose whole files take a second to open."""


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMODALSEG_MAX_MEGAPIXELS", "50")  # as in the command-line program
        yield Fuzz(tmp_path_factory.mktemp("fuzz"), seed=0)


@pytest.fixture(scope="module")
def kinds(fuzz):
    return targets(fuzz.place / "whole")


def test_undamaged_files_are_read(fuzz, kinds):
    for name, target in kinds.items():
        outcome, _ = fuzz.read(target, shutil.copytree(target.folder, fuzz.place / f"copy_{name}"))
        assert outcome == "read", f"{name}: {fuzz.failures}"
    assert not fuzz.canary.strays


def test_damaged_files_are_read_or_refused(fuzz, kinds):
    for name, target in kinds.items():
        for number in range(2 if name in SLOW else 8):
            fuzz.one(name, target, number)
    refused = sum(counts["refused"] for counts in fuzz.counts.values())
    assert refused > 100, "the damage reaches nothing"
    assert not fuzz.failures and not fuzz.canary.strays and not fuzz.canary.executed()


def test_the_canary_and_the_counts_detect_violations(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/a.txt").write_text("x")

    def careless(work: Path):
        open("/etc/hostname").close()
        os.system("true")
        raise KeyError("none of ours")

    spy = Fuzz(tmp_path, seed=0)
    spy.one("text", Target(tmp_path / "whole", ["a.txt"], careless), 0)
    assert spy.counts["text"] == {"inputs": 1, "traceback": 1} and "none of ours" in spy.failures[0]
    assert [text.split()[0] for text in spy.canary.strays] == ["open", "os.system"] and spy.tell() == 1


def test_the_canary_ignores_its_own_folder(tmp_path):
    canary = Canary(tmp_path)
    with canary:
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").unlink()
    assert not canary.strays
