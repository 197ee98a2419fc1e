"""The command line's message about a mistake."""

from amodalseg.cli import main


def refused(capsys, arguments, *parts):
    """A command exits with 2 and one line that contains all these parts."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    for part in parts:
        assert part in error, error
