"""The interface of every model: it predicts masks for queries."""

from __future__ import annotations

import operator
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amodalseg.data.given_masks import as_masks
from amodalseg.errors import UserError
from amodalseg.models.moving import move_by_paste
from amodalseg.predictions import Prediction, PredictionStack
from amodalseg.types import Query, stable_seed

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


def check_query(query: Query) -> None:
    """Refuse a query that no model can process. Raises UserError with one line that says what to change."""
    image, modal = query.image, query.modal
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        raise UserError(f"the image must be a uint8 array (H, W, 3) in RGB, not {_kind(image)}")
    check_masks(image, modal)
    if modal.ndim != 2:
        raise UserError(f"a query is about one object: the modal mask must be (H, W), not {modal.shape}")
    if query.occluder is not None:
        _check_occluder(query.occluder, modal)
    if query.to is not None:
        _check_move(query, query.to)


def _check_occluder(occluder: Any, modal: np.ndarray) -> None:
    if not (isinstance(occluder, np.ndarray) and occluder.dtype == bool and occluder.ndim == 2):
        how = "; compare with a threshold: mask > 127" if isinstance(occluder, np.ndarray) else ""
        raise UserError(f"the occluder must be a bool array (H, W), not {_kind(occluder)}{how}")
    if occluder.shape != modal.shape:
        (height, width), (rows, columns) = occluder.shape, modal.shape
        sizes = f"{width}x{height} and {columns}x{rows}"
        raise UserError(f"occluder and modal mask differ in size: {sizes} (width x height)")


def _check_move(query: Query, to: Any) -> None:
    height, width = query.modal.shape
    if not (isinstance(to, (tuple, list)) and len(to) == 2 and all(isinstance(n, (int, np.integer)) for n in to)):
        raise UserError(f"the target of a move must be two whole numbers (x, y), not {to!r:.60}")
    check_inside("target", to[0], to[1], height, width)
    if query.modal.all():
        raise UserError("the modal mask covers the whole photo: no background is visible")


def check_inside(what: str, x: float, y: float, height: int, width: int) -> None:
    """Refuse a point, named ``what``, that lies outside the photo. Raises UserError."""
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(
            f"the {what} {x:g},{y:g} lies outside the photo of {width}x{height} (width x height): give x from 0 to "
            f"{width - 1} and y from 0 to {height - 1}"
        )


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Convert a photo to uint8 (H, W, 3) RGB, without copying it.

    Args:
        image: uint8 (H, W, 3) RGB is returned unchanged; grey (H, W) or (H, W, 1) is replicated to three channels; the
            alpha channel of RGBA (H, W, 4) is dropped, so transparent pixels show whatever colour is stored there.

    Raises:
        UserError: for anything else; the message says how to convert it.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(f"the image must be a uint8 array (H, W, 3) in RGB, not {_kind(image)}; try np.asarray(image)")
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] not in (1, 3, 4):
        raise UserError(f"the image {image.shape} has its channels first; give image.transpose(1, 2, 0)")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or 0 in image.shape:
        raise UserError(f"the image must be a uint8 array (H, W, 3) in RGB, (H, W) or (H, W, 4), not {image.shape}")
    if image.dtype != np.uint8:
        raise UserError(f"the image must be a uint8 array with values from 0 to 255, not {_convert(image)}")
    if image.ndim == 2:
        image = image[..., None]
    return np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[2] == 1 else image[..., :3]


def _convert(image: np.ndarray) -> str:
    """The dtype of an unsupported image, and how to convert it to uint8."""
    if np.issubdtype(image.dtype, np.floating):
        finite = np.isfinite(image)
        if not finite.all():
            count = image.size - np.count_nonzero(finite)
            return f"{image.dtype}, and {count} of its values are NaN or infinite; find out why before you convert it"
        if image.max() <= 1:
            return f"{image.dtype}; give (image.clip(0, 1) * 255).round().astype(np.uint8)"
        return f"{image.dtype}; give image.clip(0, 255).round().astype(np.uint8)"
    if image.dtype == np.uint16:
        return "uint16; give (image >> 8).astype(np.uint8)"
    if image.dtype == bool:
        return "bool; give image.astype(np.uint8) * 255"
    return f"{image.dtype}; give image.clip(0, 255).astype(np.uint8)"


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def check_masks(image: np.ndarray, modal: np.ndarray) -> None:
    """Refuse modal masks, bool (H, W) or (N, H, W), that do not fit an image (H, W, 3). Raises UserError."""
    if not (isinstance(modal, np.ndarray) and modal.dtype == bool and modal.ndim in (2, 3)):
        how = "" if isinstance(modal, np.ndarray) and modal.dtype == bool else "; compare with a threshold: mask > 127"
        raise UserError(f"the modal mask must be a bool array (H, W), or a stack (N, H, W), not {_kind(modal)}{how}")
    if image.shape[:2] != modal.shape[-2:]:
        raise UserError(
            f"image and modal mask differ in size: {image.shape[1]}x{image.shape[0]} and "
            f"{modal.shape[-1]}x{modal.shape[-2]} (width x height)"
        )
    empty = [index for index, mask in enumerate(modal.reshape(-1, *modal.shape[-2:])) if not mask.any()]
    if empty:
        which = f"modal mask number {empty[0]} of the stack, counted from 0," if modal.ndim == 3 else "the modal mask"
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise UserError(f"{which} is empty{more}: at least one pixel of the object must be visible")


def whole_number(value: Any, name: str, least: int) -> int:
    """Convert an argument that must be a whole number to an int. Raises UserError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return number


def sample_seed(seed: int, sample: int) -> int:
    """The seed of one of an object's samples; the first sample uses the object's own seed."""
    return seed if sample == 0 else stable_seed(seed, sample)


class AmodalModel(ABC):
    """Completes objects. Windows, normalisation and pasting back are the model's responsibility, not the caller's."""

    name: str = ""
    config: Any = None
    """The model's options, a dataclass of ``config/schema.py``; None for models without options."""
    stochastic: bool = False
    """Whether the model samples; seed, ``num_samples`` and ``steps`` have an effect only then."""
    has_probability: bool = False
    """Whether the model's predictions have a probability."""
    reads_text: bool = False
    """Whether ``Query.category`` has an effect."""
    adaptation: str = ""
    """The original task of a method whose masks come from this project's adaptation; shown wherever it is listed."""
    batch_size: int = 16
    """Objects, or samples of objects, per forward pass; bounds memory for any number of queries."""

    @property
    def device(self) -> torch.device | str:
        """The device the model runs on."""
        return "cpu"

    def to(self, device: torch.device | str) -> Self:
        """Move the model to another device. Models without a network stay on the CPU."""
        return self

    def override(self, options: dict[str, Any]) -> dict[str, Any]:
        """Change options for all later predictions; the weights are unchanged.

        Args:
            options: nested, for instance ``{"post": {"threshold": 0.4}}``; options that only other models have are
                ignored.

        Returns:
            Those options that this model has.

        Raises:
            UserError: an option does not exist or cannot be changed in this model, a value is invalid, or something
                that the options name is missing. The model is then left unchanged.
        """
        return {}

    def num_parameters(self) -> int | None:
        """Parameters of the model's networks; None while they are not loaded, or if the file does not say."""
        return 0

    def __repr__(self) -> str:
        count = self.num_parameters()
        size = "size unknown" if count is None else f"{count / 1e6:.1f} M parameters" if count else "no parameters"
        return f"{type(self).__name__}('{self.name}', {size}, {self.device})"

    @abstractmethod
    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        """Predict for queries with images of any size; a prediction never depends on its batch.

        Args:
            queries: the objects to complete.
            num_samples, steps: as for ``predict``.

        Raises:
            UserError: ``check_query`` refuses a query.
        """

    def move(self, query: Query, prediction: Prediction, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Move an object. By default its origin is filled by Telea's method and the completed object is pasted.

        Args:
            query: with ``to``.
            prediction: the model's own prediction for it; evaluations spent on the move are added to its
                ``evaluations``.
            steps: of the sampler, for models that generate; None: the model's own.

        Returns:
            The photo after the move, uint8 (H, W, 3), and the whole object's mask in it, bool (H, W).
        """
        return move_by_paste(query, prediction)

    def edit_photo(self, query: Query, prediction: Prediction, steps: int | None = None) -> np.ndarray | None:
        """Edit a photo. By default, models do not edit.

        Args:
            query: with ``edit``.
            prediction, steps: as for ``move``.

        Returns:
            The photo after the edit, uint8 (H, W, 3), or None if the model does not edit.
        """
        return None

    def with_changes(
        self, queries: Sequence[Query], predictions: list[Prediction], steps: int | None = None
    ) -> list[Prediction]:
        """Add the moves and edits that the queries request; ``predict_batch`` of every model ends with this call."""
        for query, prediction in zip(queries, predictions, strict=True):
            began = time.perf_counter()
            if query.to is not None:
                prediction.moved, prediction.moved_mask = self.move(query, prediction, steps)
            if query.edit is not None:
                prediction.edited = self.edit_photo(query, prediction, steps)
            if query.to is not None or query.edit is not None:
                prediction.seconds += time.perf_counter() - began
        return predictions

    def predict(
        self,
        image: np.ndarray,
        modal: Any,
        *,
        seed: int = 0,
        num_samples: int = 1,
        steps: int | None = None,
        threshold: float | None = None,
    ) -> Prediction | PredictionStack:
        """Complete one or several objects in a photo.

        Args:
            image: uint8 (H, W, 3) RGB of any size; grey and RGBA are converted, see ``as_rgb``.
            modal: bool (H, W), the visible pixels; or a stack (N, H, W) of any N, which is processed in batches; or the
                output of a detector or mask generator, see ``as_masks``.
            seed: of all random numbers, non-negative. Every object of a stack uses it, so an object's prediction is the
                same alone and in a stack.
            num_samples: samples per object. The probability is their mean, and ``amodal`` is the region where it
                exceeds the model's threshold. The first sample is the prediction of ``num_samples=1``; sample k uses
                ``stable_seed(seed, k)``.
            steps: of the sampler, for this call; default: the model's own.
            threshold: of the probability, in (0, 1), replacing the model's own, see ``Prediction.at``.

        Returns:
            Masks of the image's size; for a stack, a ``PredictionStack`` with masks (N, H, W).

        Raises:
            UserError: an image, a mask or a number cannot be used.
        """
        image = as_rgb(image)
        modal = as_masks(modal, *image.shape[:2])
        check_masks(image, modal)
        seed, num_samples = whole_number(seed, "seed", 0), whole_number(num_samples, "num_samples", 1)
        steps = None if steps is None else whole_number(steps, "steps", 1)
        self.warn_if_unused(num_samples, steps)
        queries = [Query(image, mask, seed) for mask in modal.reshape(-1, *modal.shape[-2:])]
        members = self.predict_batch(queries, num_samples=num_samples, steps=steps)
        if threshold is not None:
            members = [member.at(threshold) for member in members]
        if modal.ndim == 2:
            return members[0]
        samples = num_samples if self.stochastic else 1
        return PredictionStack(members, modal, samples if self.has_probability else None)

    def warn_if_unused(self, num_samples: int, steps: int | None) -> None:
        """Warn if ``num_samples`` or ``steps`` is given to a model that does not sample."""
        if not self.stochastic and (num_samples != 1 or steps is not None):
            warnings.warn(f"'{self.name}' is deterministic: num_samples and steps have no effect", stacklevel=3)
