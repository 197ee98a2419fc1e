"""YAML files, possibly untrusted: size, nesting and interpolations are limited."""

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
"""Maximum size of a file, number of its values with all aliases expanded, and depth of nesting."""
PLAIN = re.compile(r"\$\{[\w.\[\]-]+\}")
"""Reference to another option's value."""
OWN_VARIABLE = re.compile(r"\$\{oc\.env:\s*AMODALSEG_\w+\s*(,[^${}]*)?\}")
"""Reference to an environment variable of this project, perhaps with a default."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as plain dicts, lists and values, with interpolations unresolved.

    Raises:
        UserError: it is missing, not a regular file, not UTF-8, not YAML, or exceeds the limits.
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
    """Count the values of a text with all aliases expanded, from the parser's events alone. Raises UserError."""
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
            deep = len(open_nodes) > DEEPEST
            what = f"is nested deeper than {DEEPEST} levels" if deep else f"expands to more than {MOST_NODES} values"
            raise UserError(f"{path} is not a configuration: it {what}")


def check_interpolations(content: Any, origin: str) -> None:
    """Refuse interpolations of anything but options and variables ``AMODALSEG_*``. Raises UserError."""
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
