"""Files of releases that the project carries no catalogue of, by the web service of the package `atlasopenmagic`."""

import importlib
from collections.abc import Sequence
from typing import Any

from fileset.exceptions import FailureError, InputError

__all__ = ["release_files"]


def release_files(release: str, skim: str | None, protocol: str, dsids: Sequence[int]) -> list[str]:
    """Addresses of the files of a release.

    Args:
        release: its name there, such as `2025e-13tev-beta`.
        skim: key of the skim; None for the files before any skim.
        protocol: `root` or `https`.
        dsids: dataset numbers (0: data); empty for all.

    Raises:
        InputError: the package is not installed, or there is no such release, sample or skim.
        FailureError: the service cannot be reached.
    """
    try:
        client: Any = importlib.import_module("atlasopenmagic")
    except ImportError as error:
        msg = f"The fileset atlasopenmagic:{release} needs the package atlasopenmagic: install it with pip."
        raise InputError(msg) from error
    try:
        client.set_release(release)
        keys = ["data" if dsid == 0 else str(dsid) for dsid in dsids] or client.available_datasets()
        return [
            str(address)
            for key in keys
            for address in client.get_urls(key, skim=skim or "noskim", protocol=protocol, cache=False)
        ]
    except OSError as error:
        msg = (
            f"The service that lists the files of {release} cannot be reached ({type(error).__name__}): try again "
            "with a network, or name a catalogue or directory."
        )
        raise FailureError(msg) from error
    except ValueError as error:
        # The client says so for an unknown release, sample or skim, and when a sample's page cannot be fetched.
        first_line = str(error).splitlines()[0].rstrip(".")
        msg = f"atlasopenmagic does not find the files of {release}: {first_line}."
        raise InputError(msg) from error
