"""A wrong word is answered with the right one."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """What to say after a word that is none of the known ones.

    Args:
        word: what was given.
        known: what could have been meant.
        otherwise: what is said where nothing is near enough.

    Returns:
        "did you mean <the nearest>?", or `otherwise`. Upper and lower case are alike.
    """
    spelt = {name.lower(): name for name in reversed(list(known))}
    near = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.5)
    if not near:
        # What was cut short, such as report for report-minmax.
        near = [name for name in reversed(spelt) if word and name.startswith(word.lower())][:1]
    return f"did you mean {spelt[near[0]]}?" if near else otherwise
