"""The one exception that is meant for people."""


class UserError(ValueError):
    """Something the user gave is wrong: a file, a key, a mask, a size, a checkpoint.

    The message is one line that says what is wrong and what to do; the command line prints it without a traceback
    and exits with code 2.
    """
