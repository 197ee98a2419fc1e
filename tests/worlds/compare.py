"""Comparison of records by content, since records are compared by identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from amodalseg.types import AmodalRecord


def held(records: AmodalRecord | Iterable[AmodalRecord]) -> list[dict[str, Any]]:
    """All fields of one record, or of several."""
    return [asdict(record) for record in ([records] if isinstance(records, AmodalRecord) else records)]
