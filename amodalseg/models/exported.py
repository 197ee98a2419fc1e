"""A model from an exported file: NumPy, OpenCV and ONNX Runtime. Never imports PyTorch."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg.atomic import read_regular
from amodalseg.config.load import build
from amodalseg.config.schema import CondDiffAMOConfig, ModelOnly
from amodalseg.errors import UserError
from amodalseg.models.exported_weights import bad_weights, holds_external_data, weights_beside
from amodalseg.models.noise import sample_noise
from amodalseg.models.windowed import WindowBatch, WindowModel

FORMAT = "amodalseg-onnx-1"
"""Format version in every file, incremented when inputs, outputs or metadata change."""


Providers = str | Sequence[str | tuple[str, dict[str, Any]]]
CPU = "CPUExecutionProvider"


class OnnxPredictor(WindowModel):
    """Completes objects in photos of any size with an exported file.

    It is used like the exported model, and predicts the same for the same seed, up to rounding:
    ``predict(image, modal, seed=0, num_samples=1)``, one mask or a stack of them.

    Args:
        path: the .onnx file; if it holds only the graph, the weights must lie beside it in a .safetensors file.
        providers: of ONNX Runtime, in order of preference: a name, or a list of names and of ``(name, options)``, for
            instance ``["CUDAExecutionProvider"]``; default: the CPU. An unavailable provider is refused, unless
            ``CPUExecutionProvider`` is listed as a fallback.
        num_threads: of one operation on the CPU; default: ONNX Runtime's own choice, all cores.
        batch_size: windows per run; bounds memory for any number of objects.

    Attributes:
        config: of the exported model.
        about: training metadata from its file.

    Raises:
        UserError: the file is missing, not an ONNX file, of another program or of another format version; weights
            contain NaN or infinity, are missing, or differ from the exported ones; a provider is not available; ONNX
            Runtime is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        providers: Providers | None = None,
        num_threads: int | None = None,
        *,
        batch_size: int = 16,
    ) -> None:
        self.path, self.name, self.batch_size = Path(path), Path(path).stem, batch_size
        self._session, weights = _open(self.path, providers, num_threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is damaged: its metadata is not text; export the model again") from error
        found = metadata.get("format")
        if found != FORMAT:
            known = f"in the format {found!r}" if found else "by another program"
            raise UserError(
                f"{path} was written {known}, and this release reads {FORMAT!r}: export the model again with it"
            )
        if weights != metadata.get("weights_sha256", ""):
            raise UserError(f"{path} was exported from other weights than those beside it; export the model again")
        try:
            plain, self.about = json.loads(metadata["model"]), json.loads(metadata["about"])
            config = build(ModelOnly, [(str(path), {"model": plain})]).model
        except (KeyError, ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} has no readable configuration inside; export the model again") from error
        try:
            self._shapes = {node.name: tuple(node.shape) for node in self._session.get_inputs()}
            outputs = {node.name for node in self._session.get_outputs()}
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is damaged: its names are not text; export the model again") from error
        if not isinstance(config, CondDiffAMOConfig) or not _fits(self._shapes, outputs, config.window.size):
            raise UserError(f"{path} has other inputs or outputs than its configuration says; export the model again")
        self.config: CondDiffAMOConfig = config

    stochastic = True

    def num_parameters(self) -> None:
        return None

    @property
    def num_noise_maps(self) -> int:
        """Number of noise maps that the graph takes per object."""
        return self._shapes["noise"][0]

    def evaluations(self, steps: int | None) -> int:
        return self.config.sampler.steps

    def run(self, image: np.ndarray, modal: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Complete windows: the graph itself.

        Args:
            image: uint8 (B, 3, S, S) RGB.
            modal: uint8 (B, 1, S, S); every value but 0 is visible.
            noise: float32 (num_maps, B, 1, S, S), standard normal.

        Returns:
            Probability, float32 (B, 1, S, S), and mask, uint8 (B, 1, S, S) in {0, 1}.

        Raises:
            UserError: arrays have other shapes or types.
        """
        given = {"image": image, "modal": modal, "noise": noise}
        for name, array in given.items():
            kind = np.float32 if name == "noise" else np.uint8
            wanted = tuple(n if isinstance(n, int) else len(image) for n in self._shapes[name])
            if array.dtype != kind or array.shape != wanted:
                raise UserError(
                    f"the graph takes '{name}' as {np.dtype(kind)} {wanted}, not {array.dtype} {array.shape}"
                )
        try:
            probability, mask = self._session.run(["probability", "mask"], given)
        except Exception as error:  # as in _open
            first = str(error).strip().splitlines()[0]
            raise UserError(f"{self.path} cannot be run ({first:.200}); export the model again") from error
        shape = (len(image), 1, *image.shape[2:])
        if probability.shape != shape or mask.shape != shape:
            raise UserError(f"{self.path} returns maps of another size than its input; export the model again")
        return probability, mask

    def window_probability(self, batch: WindowBatch) -> np.ndarray:
        """As in ``WindowModel``. Raises UserError for a number of steps other than the exported one."""
        own = self.config.sampler.steps
        if batch.steps not in (None, own):
            raise UserError(f"{self.path} samples in {own} steps; export it again with --steps {batch.steps}")
        pixels = np.ascontiguousarray(batch.image.transpose(0, 3, 1, 2))
        noise = sample_noise(batch.seeds, self.num_noise_maps, self.config.window.size)
        return self.run(pixels, batch.modal[:, None].astype(np.uint8), noise)[0][:, 0]


def _fits(inputs: dict[str, tuple[Any, ...]], outputs: set[str], size: int) -> bool:
    """Whether a graph takes windows of this size, and has the outputs that ``run`` needs."""
    ranks = {"image": 4, "modal": 4, "noise": 5}
    return (
        {name: len(shape) for name, shape in inputs.items()} == ranks
        and all(shape[-2:] == (size, size) for shape in inputs.values())
        and isinstance(inputs["noise"][0], int)
        and {"probability", "mask"} <= outputs
    )


def _open(path: Path, providers: Providers | None, num_threads: int | None) -> tuple[Any, str]:
    """The session, and the SHA-256 of the weights beside the file, empty if it holds its own."""
    # read on import; otherwise the library sends telemetry and leaves a file in the temporary folder
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("an exported file runs on ONNX Runtime: install it with pip install onnxruntime") from error
    if not path.is_file():
        raise UserError(f"no model file at {path}")
    wanted, present = _wanted(providers), onnxruntime.get_available_providers()
    unknown = [name for name, _ in wanted if name not in present]
    if unknown:
        raise UserError(f"ONNX Runtime has no {unknown[0]} here; it has {', '.join(present)}")
    data = read_regular(path)
    weights, digest = weights_beside(path, data) if holds_external_data(data) else ({}, "")
    bad = bad_weights(data)
    if bad:
        raise UserError(
            f"{path} is damaged, or was exported from damaged weights: {len(bad)} of its tensors hold NaN or infinity "
            f"({bad[0]}); export the model again"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=wanted)
    except Exception as error:  # the only common base of its own exception classes
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is not a complete ONNX file that ONNX Runtime can run ({first})") from error
    used = session.get_providers()
    for name, _ in wanted:
        if name in used:
            continue
        text = f"ONNX Runtime cannot use {name} on this machine: its device, driver or libraries are missing"
        if CPU not in [other for other, _ in wanted]:
            raise UserError(f"{text}; install them, or choose the CPU (providers=None, --device cpu)")
        warnings.warn(f"{text}; predicting on the CPU, which the list of providers allows", stacklevel=3)
    return session, digest


def _wanted(providers: Providers | None) -> list[tuple[str, dict[str, Any]]]:
    """Providers as (name, options)."""
    given = [providers] if isinstance(providers, str) else list(providers or [CPU])
    wanted = [(item, {}) if isinstance(item, str) else item for item in given]
    for item in wanted:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict)):
            raise UserError(
                f"a provider is a name or (name, options), not {item!r}; for instance 'CUDAExecutionProvider'"
            )
    return wanted
