"""The two ways a run can end badly; each message is one sentence that names the culprit and what to do."""

__all__ = ["FailureError", "InputError"]


class InputError(Exception):
    """What the user asked for is wrong: a missing directory, an unknown region, a bad configuration key.

    The command line ends with exit status 2.
    """


class FailureError(Exception):
    """The request was fine but could not be carried out: a truncated file, a dead worker, a full disk.

    The command line ends with exit status 1.
    """
