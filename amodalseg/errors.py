"""The one exception that is meant for people."""

LONGEST = 2000
"""Characters of a message."""


class UserError(ValueError):
    """Something the user gave is wrong: a file, a key, a mask, a size, a checkpoint.

    The message is one line that says what is wrong and what to do; the command line prints it without a traceback
    and exits with code 2. What a message quotes from a file may be long: of a long one the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-500:]}")


TRAINING = {"torch", "torchvision", "timm", "lightning", "albumentations", "wandb", "matplotlib"}
"""Packages that predicting with an exported file does not need: the extra ``train``."""


def explain_missing(error: ModuleNotFoundError, what: str) -> UserError | None:
    """What to tell people whose installation lacks a package of the extra ``train``; None for any other package.

    Args:
        error: of the import.
        what: needs it.
    """
    package = (error.name or "").partition(".")[0]
    if package not in TRAINING:
        return None
    return UserError(f"{what} needs {package}: install it with pip install 'amodalseg[train]'")
