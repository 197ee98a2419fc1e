"""The data sets of one evaluation: opened and checked before anything is predicted."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from amodalseg.config.schema import EvalConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.data.source import Source
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

OF_DATA = re.compile(r"\bdata\.(?=\w+=)")
"""An option in a reader's message, named as if there were no ``sets``."""


class OpenSet(NamedTuple):
    """One data set of an evaluation.

    name: in ``sets``, or the data section's own. dataset: its objects. part: (dataset, split) as its rows carry them.
    """

    name: str
    dataset: EvaluationSet
    part: tuple[str, str]


class JoinedSources:
    """The objects of several sources, one source after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self.ends[-1]

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        number = bisect_right(self.ends, index)
        return self.sources[number].get(index - (self.ends[number - 1] if number else 0), epoch)


def open_sets(config: EvalConfig) -> list[OpenSet]:
    """Open all data sets of an evaluation.

    Raises:
        UserError: sets are missing, wrong or empty (all are listed, with their names in ``sets`` and how to leave them
            out), or objects of two sets would have the same keys.
    """
    if not config.sets:
        return [_open(config.data.name, config.data, config.seed)]
    opened, wrong = [], {}
    for name, section in config.sets.items():
        try:
            opened.append(_open(name, section, config.seed))
        except UserError as error:
            wrong[name] = OF_DATA.sub(f"sets.{name}.", str(error))
    sentences = "; ".join(f"sets.{name}: {text}" for name, text in wrong.items())
    left_out = " ".join(f"sets.{name}=null" for name in wrong)
    if len(wrong) > 1:
        counts = f"{len(wrong)} of {len(config.sets)} data sets cannot be opened"
        raise UserError(f"{counts} ({left_out} leaves these sets out): {sentences}")
    if wrong:
        raise UserError(f"{sentences} ({left_out} leaves this set out)")
    owner: dict[tuple[str, str], str] = {}
    for one in opened:
        if one.part in owner:
            raise UserError(
                f"sets.{owner[one.part]} and sets.{one.name} both hold objects of {' / '.join(one.part)}, whose rows "
                f"could not be told apart; evaluate them in two runs (sets.{one.name}=null leaves one out)"
            )
        owner[one.part] = one.name
    return opened


def _open(name: str, section: Any, seed: int) -> OpenSet:
    if section.name == "coco":
        raise UserError(
            "data.name=coco has modal masks only, so there is nothing to score against; use coco_occlude to make "
            "composites with amodal ground truth"
        )
    dataset = EvaluationSet(open_source(section), seed)
    if len(dataset) == 0:
        raise UserError(f"the data set '{section.name}' contains no objects to evaluate")
    if dataset.num_unprompted:
        print(f"{name}: {dataset.num_unprompted} objects with no visible pixels cannot be prompted and are excluded")
    first = dataset.source.get(0)
    return OpenSet(name, dataset, (first.dataset, first.split))
