"""One training step as Lightning performs it: clipped gradients, at every precision that the CPU supports."""

import math
from pathlib import Path

import pytest

from amodalseg.cli import main
from tests.engine.journeys import train_arguments, weights

CLIP = 1e-3


def momentum(out: Path, *options: str) -> float:
    """Norm of AdamW's mean gradient after two steps of training."""
    assert main(train_arguments(out, "trainer.max_steps=2", "val.num_objects=1", "log.pictures=1", *options)) == 0
    found = [value for name, value in weights(out / "last.ckpt").items() if name.endswith("/exp_avg")]
    assert len(found) > 50
    return math.sqrt(sum(value.double().square().sum().item() for value in found))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_gradients_are_clipped(tmp_path, precision):
    # the running mean of gradients g1 and g2 is 0.09 g1 + 0.1 g2, and neither norm exceeds the limit
    clipped = momentum(tmp_path / "clipped", f"trainer.precision={precision}", f"optim.clip={CLIP}")
    assert 0.01 * CLIP < clipped <= 0.19 * CLIP * 1.001


def test_without_a_limit_gradients_are_not_clipped(tmp_path):
    assert momentum(tmp_path / "free", "trainer.precision=bf16-mixed", "optim.clip=0") > 10 * CLIP
