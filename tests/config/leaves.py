"""Options one by one: the leaves of a configuration, and copies with one of them changed."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest


def leaves(config: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    """All options of a configuration by their full names, for instance ``pcn.adapter``."""
    found: dict[str, dataclasses.Field] = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            found |= leaves(value, f"{prefix}{spec.name}.")
        else:
            found[f"{prefix}{spec.name}"] = spec
    return found


def changed(config: Any, options: dict[str, Any]) -> Any:
    """A copy with other values. Args: options, by their full names."""
    found = copy.deepcopy(config)
    for name, value in options.items():
        *sections, last = name.split(".")
        section = found
        for part in sections:
            section = getattr(section, part)
        assert hasattr(section, last), name
        setattr(section, last, value)
    return found


class With:
    """A value that has an effect only together with certain values of other options."""

    def __init__(self, value: Any, **others: Any) -> None:
        self.value = value
        self.others = {name.replace("__", "."): other for name, other in others.items()}


def cases(config: Any, table: dict[str, Any], *exempt: str) -> list[Any]:
    """Parameters (option, value, other options) for pytest: an option's value in the table, or all its other choices.

    An option missing from the table yields a case with the value None, whose test fails and names the option.
    """
    found = []
    for name, spec in leaves(config).items():
        if name in exempt:
            continue
        entry = table.get(name)
        others = entry.others if isinstance(entry, With) else {}
        value = entry.value if isinstance(entry, With) else entry
        choices = spec.metadata.get("choices", ())
        now = getattr_of(changed(config, others), name)
        values = [choice for choice in choices if choice != now] if choices and value is None else [value]
        found += [pytest.param(name, one, others, id=f"{name}={one}") for one in values]
    return found


def getattr_of(config: Any, name: str) -> Any:
    """The value of an option by its full name."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def known(name: str, value: Any) -> None:
    """Fail if the table has no second value of the option."""
    assert value is not None, f"{name} is new: give the table of this test another value of it, to see that it works"
