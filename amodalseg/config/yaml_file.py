"""YAML files, which may be somebody else's: read within limits, so that none fills the memory or reaches out."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from amodalseg.atomic import open_regular
from amodalseg.errors import UserError

MOST_BYTES, MOST_NODES, DEEPEST = 1_000_000, 50_000, 40
"""Of a file; of its values with all aliases written out; of lists and sections in each other."""
PLAIN = re.compile(r"\$\{[\w.\[\]-]+\}")
"""Stands for another option's value."""
OWN_VARIABLE = re.compile(r"\$\{oc\.env:\s*AMODALSEG_\w+\s*(,[^${}]*)?\}")
"""Stands for an environment variable of ours, with what it is where that is not set."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as plain dicts, lists and values, with interpolations as they stand.

    Raises:
        UserError: it is missing, is no file, no UTF-8 or no YAML, or beyond the limits.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"no configuration file at {path}") from error
    except OSError as error:
        raise UserError(f"cannot read the configuration file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it in that encoding") from error
    if len(data) > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES / 1e6:g} MB, too large for a configuration")
    try:
        _check_size(text, path)
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (OSError, AssertionError):  # raised by OmegaConf for a single value, unquoted or quoted
        return None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from error


def _check_size(text: str, path: Path) -> None:
    """Count what a text would become, with every alias written out, from its events alone. Raises UserError."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > MOST_NODES or len(open_nodes) > DEEPEST:
            what = f"lists in each other deeper than {DEEPEST}" if len(open_nodes) > DEEPEST else f"{MOST_NODES} values"
            raise UserError(f"{path} is not a configuration: it expands to more than {what}")


def check_interpolations(content: Any, origin: str) -> None:
    """Refuse interpolations that reach out: only other options and variables ``AMODALSEG_*`` are. Raises UserError."""
    if isinstance(content, dict):
        for key, value in content.items():
            check_interpolations(value, f"{origin}: {key}")
    elif isinstance(content, list):
        for value in content:
            check_interpolations(value, origin)
    elif isinstance(content, str) and "${" in OWN_VARIABLE.sub("", PLAIN.sub("", content)):
        raise UserError(
            f"{origin}: '{content:.100}' is not allowed: only ${{option.name}} and ${{oc.env:AMODALSEG_NAME}} are read"
        )
