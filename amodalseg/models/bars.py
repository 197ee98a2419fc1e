"""Progress bars for long computations, shown on request only: models by themselves show none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_wanted: ContextVar[bool] = ContextVar("bars", default=False)


@contextmanager
def shown() -> Iterator[None]:
    """Context in which ``steps`` shows progress bars, on a terminal."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def steps(items: Iterable[T], title: str) -> Iterable[T]:
    """Iterate over items, with a progress bar if requested. It vanishes at the end."""
    return tqdm(items, desc=title, unit="step", leave=False, disable=None) if _wanted.get() else items
