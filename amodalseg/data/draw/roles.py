"""Choice of a scene's photos and objects: every role is sampled from packs of data by its own shares."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from amodalseg.errors import UserError


class Role:
    """Records that may play one role, sampled by packs.

    Args:
        name: of the role, for messages: an option ``data.NAME``.
        candidates: positions of the eligible records.
        packs: the pack of each record of the data set.
        shares: relative frequency of each pack; empty: all candidates are equally likely.

    Raises:
        UserError: a share is negative, all are 0, or a pack has no candidate.
    """

    def __init__(self, name: str, candidates: Sequence[int], packs: Sequence[str], shares: dict[str, float]) -> None:
        known = sorted(set(packs))
        for pack, share in shares.items():
            if pack not in known:
                near = difflib.get_close_matches(pack, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise UserError(f"data.{name}.{pack} is not a pack of data{hint} (there are {', '.join(known)})")
            if share < 0:
                raise UserError(f"data.{name}.{pack}={share} must not be negative")
        if shares and not sum(shares.values()):
            raise UserError(f"the shares in data.{name} are all 0: give one pack a share")
        groups: dict[str, list[int]] = {}
        for index in candidates:
            groups.setdefault(packs[index] if shares else "", []).append(index)
        for pack, share in shares.items():
            if share > 0 and pack not in groups:
                raise UserError(f"data.{name}.{pack}={share}: no object of this pack can be one of the {name}")
        groups = {pack: members for pack, members in groups.items() if not shares or shares.get(pack, 0) > 0}
        total = [shares.get(pack, 1.0) for pack in groups]
        self._ends, self._members, self._packs = np.cumsum(total) / max(1e-12, sum(total)), list(groups.values()), packs

    def __len__(self) -> int:
        return sum(map(len, self._members))

    def sample(self, rng: np.random.Generator) -> int:
        """One record's position."""
        which = 0
        if len(self._members) > 1:
            which = int(np.searchsorted(self._ends, rng.random(), side="right"))
        members = self._members[which]
        return members[rng.integers(len(members))]

    def describe(self) -> str:
        """How often each pack is sampled, and from how many: ``coco 33 % of 700, duts 67 % of 6514``."""
        weight: dict[str, float] = {}
        count: dict[str, int] = {}
        for share, members in zip(np.diff(self._ends, prepend=0), self._members, strict=True):
            for index in members:
                pack = self._packs[index]
                weight[pack] = weight.get(pack, 0) + share / len(members)
                count[pack] = count.get(pack, 0) + 1
        return ", ".join(f"{pack} {100 * weight[pack]:.0f} % of {count[pack]}" for pack in sorted(count))
