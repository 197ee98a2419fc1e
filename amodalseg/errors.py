"""The one exception intended for users."""

LONGEST = 2000
"""Maximum length of a message, characters."""


class UserError(ValueError):
    """Something provided by the user is wrong: a file, a key, a mask, a size, a checkpoint.

    The message is one line that says what is wrong and what to do; the command line prints it without a traceback
    and exits with code 2. Quotes from a file may make a message long; the middle of a long message is omitted.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-500:]}")


TRAINING = {"torch", "torchvision", "timm", "lightning", "albumentations", "wandb", "matplotlib"}
"""Packages of the extra ``train``, which prediction with an exported file does not need."""


def explain_missing(error: ModuleNotFoundError, what: str) -> UserError | None:
    """The error for an installation that lacks a package of the extra ``train``; None for any other package.

    Args:
        error: raised by the import.
        what: the part that needs the package.
    """
    package = (error.name or "").partition(".")[0]
    if package not in TRAINING:
        return None
    return UserError(f"{what} needs {package}: install it with pip install 'amodalseg[train]'")
