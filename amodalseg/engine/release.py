"""A run's weights -> the file to publish."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amodalseg.config.load import read_overrides, to_dict
from amodalseg.config.schema import NetworkConfig
from amodalseg.engine.run_folder import flat, provenance
from amodalseg.errors import UserError
from amodalseg.models import model_file, network_model_class
from amodalseg.models.inpainting.backends import word_files
from amodalseg.models.inpainting.backends.prior import ABOUT, FOLDER, WEIGHTS, find_prior, load_prior, save_prior
from amodalseg.models.inpainting.parts import small_segmenter
from amodalseg.models.weights import check_state, read_weights, save_weights

NOT_OF_WEIGHTS = ("sampler", "vgpe", "post", "loss", "diff.t_dist", "diff.beta_a", "diff.beta_b", "window.size")
"""Options that describe how weights were trained or are used, not the network: two models may differ in them."""
OF_RUNS = ("out", "init", "continue_from")
"""Options that name a run or its checkpoint, with its location."""


def release(
    run: str, out: Path, about: Sequence[str], mean_with: str | None = None, share: float = 0.5,
    options: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a model's weights at half the size, with the information that users need about them.

    The file keeps the metadata of the run (training configuration, step, scores), and adds the ``key=value`` notes and
    the commit of this program.

    Args:
        run: a run folder, a ``.safetensors`` file or a ``.ckpt``; or the run folder of an inpainting prior, of a
            text-conditioned prior or of a text-driven segmenter, or the folder with the weights in it.
        out: ends in .safetensors; for a prior or a segmenter a folder.
        about: notes; recommended are ``data``, ``command``, ``seed``, ``scores``, ``hardware`` and ``licence``.
        mean_with: a second model with the same options, for instance the one that ``run`` continued: the file holds
            the mean of both.
        share: of the second model in that mean, above 0 and below 1.
        options: ``key=value``, options of sampling and post-processing that replace those of training, for instance
            ``sampler.steps=2``.

    Returns:
        ``out``.

    Raises:
        UserError: weights cannot be used, a note is not key=value, or a name has another ending; the second model has
            other options; an option concerns the weights.
    """
    notes = dict(note.partition("=")[::2] for note in about)
    wrong = [note for note in about if not note.partition("=")[0] or "=" not in note]
    if wrong:
        raise UserError(f"--about '{wrong[0]}' is not key=value")
    path = Path(run)
    for kind, write in ((word_files, _release_word_prior), (small_segmenter, _release_segmenter)):
        folder = path / kind.FOLDER if (path / kind.FOLDER / kind.ABOUT).is_file() else path
        if (folder / kind.ABOUT).is_file():
            return write(_new_folder(out), folder, notes)
    if (mean_with is not None or options) and out.suffix != ".safetensors":
        raise UserError("--mean-with and --set are for models in one .safetensors file")
    if (path / ABOUT).is_file() or (path / FOLDER).is_dir() or (path.suffix == ".ckpt" and not out.suffix):
        return _release_prior(find_prior(run), out, notes)
    if out.suffix != ".safetensors":
        raise UserError(f"--out '{out}' is not a model file; give a name that ends in .safetensors")
    path, second = model_file(run), None if mean_with is None else model_file(mean_with)
    if out.resolve() in {one.resolve() for one in (path, second) if one is not None}:
        raise UserError(f"--out '{out}' would overwrite the weights that it is made from; give another name")
    state, config, known = read_weights(path)
    model = network_model_class(config.name)(config)
    check_state(model.network, state, path)
    if second is not None:
        state = _mean(state, config, second, share)
    if options:
        asked = read_overrides(options)
        missing = sorted(flat(asked).keys() - flat(model.override(asked)).keys())
        if missing:  # options of other kinds of models
            raise UserError(f"--set {missing[0]}: '{config.name}' has no such option")
        config = model.config
    known = {**without_folders(known), "commit": provenance()["commit"], **notes}
    place = next(folders_named(known), None)
    if place:
        text = f"the file contains a path of this machine ({place}): set AMODALSEG_DATA to the data folder"
        warnings.warn(f"{text}, or change to the project's folder, and release again", stacklevel=2)
    save_weights(out, state, config, known, dtype="float16")
    content = out.read_bytes()
    print(f"{out}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return out


def _mean(state: dict[str, Tensor], config: NetworkConfig, path: Path, share: float) -> dict[str, Tensor]:
    """(1 - share) of a model and share of another. Raises UserError: the other has other options."""
    if not 0 < share < 1:
        raise UserError(f"invalid value for --share: {share} (above 0 and below 1)")
    other, its, _ = read_weights(path)
    one, two = flat(_of_weights(config)), flat(_of_weights(its))
    differing = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if differing:
        raise UserError(f"{path} has other options ({', '.join(differing[:3])}): the two cannot be averaged")
    check_state(network_model_class(its.name)(its).network, other, path)
    return {
        key: torch.lerp(value.double(), other[key].double(), share).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in state.items()
    }


def _of_weights(config: NetworkConfig) -> dict[str, Any]:
    """The options that two models must share to be averaged."""
    found = to_dict(config)
    for name in NOT_OF_WEIGHTS:
        section, _, key = name.rpartition(".")
        (found.get(section, {}) if section else found).pop(key, None)
    return found


def _new_folder(out: Path) -> Path:
    if out.suffix or out.exists():
        raise UserError(f"--out '{out}' must be a new folder, because a prior consists of several files")
    return out


def _report(out: Path, weights: str) -> Path:
    content = (out / weights).read_bytes()
    print(f"{out / weights}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return out


def _release_word_prior(out: Path, folder: Path, notes: dict[str, str]) -> Path:
    network, tokenizer, _, known = word_files.load_word_prior(folder)
    about = {**without_folders(known), "commit": provenance()["commit"], **notes}
    word_files.save_word_prior(out, network, tokenizer.model_max_length, about)
    for name in word_files.WEIGHTS:
        _report(out, name)
    return out


def _release_segmenter(out: Path, folder: Path, notes: dict[str, str]) -> Path:
    network, known = small_segmenter.load_small(folder)
    about = {**without_folders(known), "commit": provenance()["commit"], **notes}
    small_segmenter.save_small(out, network, about)
    return _report(out, small_segmenter.WEIGHTS)


def _release_prior(folder: Path, out: Path, notes: dict[str, str]) -> Path:
    _new_folder(out)
    unet, _, known = load_prior(folder)
    save_prior(out, unet, {**without_folders(known), "commit": provenance()["commit"], **notes})
    return _report(out, WEIGHTS)


def _of_run(value: Any) -> Any:
    """The name of a run, or of a file in it, without the folders above it."""
    found = without_folders(value)
    if not isinstance(found, str) or not Path(found).is_absolute():
        return found
    return "/".join(Path(found).parts[-2 if Path(found).suffix else -1 :])


def folders_named(known: Any) -> Iterator[str]:
    """Absolute file names in the metadata."""
    if isinstance(known, (dict, list)):
        for value in known.values() if isinstance(known, dict) else known:
            yield from folders_named(value)
    elif isinstance(known, str):
        yield from re.findall(r"(?<![\w.$}:/])/(?:[\w.-]+/)+[\w.-]+", known)


def without_folders(known: Any) -> Any:
    """The metadata without the location of data and project on the training machine, which is of no use to readers."""
    if isinstance(known, dict):
        return {key: _of_run(value) if key in OF_RUNS else without_folders(value) for key, value in known.items()}
    if isinstance(known, list):
        return [without_folders(value) for value in known]
    if not isinstance(known, str):
        return known
    for folder, name in ((os.environ.get("AMODALSEG_DATA", ""), "$AMODALSEG_DATA"), (os.getcwd(), ".")):
        folder = folder.rstrip("/")
        if folder.startswith("/"):  # not for the root or a relative path; whole names only: /data does not match /data2
            known = name.join(re.split(rf"(?<![\w.~-]){re.escape(folder)}(?![\w~-]|\.\w)", known))
    return known
