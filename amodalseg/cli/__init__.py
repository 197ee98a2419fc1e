"""The command line."""

from amodalseg.cli.commands import main

__all__ = ["main"]
