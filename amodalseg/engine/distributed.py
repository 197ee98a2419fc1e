"""Collect results from all processes of a run."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def gather(items: list[Any]) -> list[Any]:
    """Every rank's items on every rank, in rank order; the list itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return items
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
