"""Events of a sample from the files that they were selected from: what shards of features do not hold any more."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.studies.held_out import Origin
from models.studies.perturbations import Features, event_features
from processors.schema import OpenDataSchema, event_record
from processors.settings import RegionSettings, RMMSettings
from processors.split import identity_hash

__all__ = ["Change", "event_changes"]

Change: TypeAlias = Callable[[ak.Array], ak.Array]  # of a record of `schema.event_record`


def event_changes(
    manifest: Mapping[str, Any],
    columns: Sequence[str],
    origin: Origin,
    key: NDArray[np.uint64],
    *,
    region: RegionSettings,
    rmm: RMMSettings,
) -> Callable[[Change], Features]:
    """What makes features of some events anew from the file they were selected from, after a change.

    Args:
        manifest: of the shards.
        columns: features.
        origin: of the events.
        key: hash of their identity, shape (n,).
        region: its cuts.
        rmm: which matrix.

    Returns:
        Features of shape (n, k) of the changed events; a change keeps how many good leptons an event has.

    Raises:
        FailureError: the file cannot be read, or does not hold the events.
    """
    file, book = origin.source.get("file"), manifest["datasets"][origin.dataset]
    if file is None:
        msg = f"the shards of {origin.dataset} do not say where they come from: run the stage select again"
        raise FailureError(msg)
    record = _record(str(file), str(book["tree"]), origin, photons=rmm.write and rmm.photons > 0)
    known = identity_hash(*(np.asarray(record[name]) for name in ("channel", "run", "event")), seed=0)
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, key, sorter=order), len(known) - 1)]
    if not np.array_equal(known[place], key):
        msg = f"{file} does not hold the events of {origin.dataset} any more: run the stage select again"
        raise FailureError(msg)
    record = record[place]

    def features(change: Change) -> Features:
        made, index = event_features(change(record), columns, region=region, rmm=rmm)
        if len(index) < len(record):
            msg = f"events of {file} do not have {region.n_leptons} good leptons: run the stage select again"
            raise FailureError(msg)
        return made

    return features


def _record(file: str, tree: str, origin: Origin, *, photons: bool) -> ak.Array:
    """The events of one chunk."""
    from coffea.nanoevents import NanoEventsFactory  # noqa: PLC0415 - heavy

    try:
        events = NanoEventsFactory.from_root(
            {file: tree},
            schemaclass=OpenDataSchema,
            mode="virtual",
            entry_start=int(origin.source["start"]),
            entry_stop=int(origin.source["stop"]),
        ).events()
        return event_record(events, photons=photons)
    except (OSError, KeyError, ValueError, zlib.error) as error:
        reason = str(error).strip().split("\n", 1)[0]
        msg = f"cannot read {file}, which the events of {origin.dataset} were selected from ({reason}): bring it back"
        raise FailureError(msg) from error
