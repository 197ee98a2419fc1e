"""Bars that show how far a long computation is, where somebody wants to see them: models alone show nothing."""

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
    """Within this block ``steps`` shows bars, on a terminal."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def steps(items: Iterable[T], title: str) -> Iterable[T]:
    """Go through items, with a bar where one is wanted. It vanishes when it is done."""
    return tqdm(items, desc=title, unit="step", leave=False, disable=None) if _wanted.get() else items
