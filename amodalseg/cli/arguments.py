"""Shared parts of the command-line interface."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from amodalseg.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises errors in arguments as UserErrors, like all other errors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; '{self.prog} --help' lists the valid arguments")


def configured(commands: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    """Add a command that takes a configuration file and ``key=value`` options; ``example`` names a shipped one."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "config", metavar="CONFIG.yaml", help=f"a file, or the name of a shipped configuration: '{example}'"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options that override the file's")
    parser.set_defaults(run=run)
    return parser


def whole_number(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def count(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """Parse I/N, with I from 1 to N."""
    index, slash, number = text.partition("/")
    if not (slash and index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a part I/N with I from 1 to N, for instance 1/8")
    return int(index), int(number)


def numbers(text: str, counts: tuple[int, ...], example: str) -> tuple[float, ...]:
    """Parse comma-separated numbers. Raises argparse.ArgumentTypeError: no numbers, or a number not in ``counts``."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in counts:
        raise argparse.ArgumentTypeError(f"'{text}' is not valid; give pixels of the photo: {example}")
    return found
