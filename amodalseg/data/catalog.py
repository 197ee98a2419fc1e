"""Data sets by name, for use from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

from amodalseg.config.load import build
from amodalseg.config.schema import DATA, DataOnly
from amodalseg.data.open import open_source
from amodalseg.data.views import ImageViews, by_image
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord


def list_datasets() -> list[str]:
    """Names that ``read_dataset`` and the option ``data.name`` accept."""
    return sorted(DATA)


@overload
def read_dataset(
    name: str, root: str | Path | None = None, *, view: Literal["object"] = "object", **options: Any
) -> list[AmodalRecord]: ...
@overload
def read_dataset(
    name: str, root: str | Path | None = None, *, view: Literal["image"], **options: Any
) -> ImageViews: ...
def read_dataset(
    name: str, root: str | Path | None = None, *, view: str = "object", **options: Any
) -> list[AmodalRecord] | ImageViews:
    """Read, or generate, all objects of a data set.

    Args:
        name: one of ``list_datasets()``.
        root: the data set's folder, for data sets read from a folder (``cocoa``).
        view: ``object``: a list of all objects; ``image``: a sequence of photos, each with its objects
            (``data/views.py``).
        **options: the keys of the data set's configuration, for instance ``split="val"``, ``num_objects=100``.

    Raises:
        UserError: the name or a key is unknown, or something is wrong with the files.
    """
    content = {"name": name, **options} if root is None else {"name": name, "root": str(root), **options}
    if view not in ("object", "image"):
        raise UserError(f"invalid value for view: {view} (choose from object, image)")
    source = open_source(build(DataOnly, [("read_dataset", {"data": content})]).data)
    return by_image(source) if view == "image" else [source.get(i) for i in range(len(source))]
