"""Single selected events as they stand in the files they came from: shards keep numbers of jets, not the jets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from fileset.remote import source_options
from processors.objects import JET_FIELDS, Ragged, good_jets
from processors.schema import BRANCHES, OpenDataSchema, event_record, release_of
from processors.settings import JetSettings

__all__ = ["Identity", "OriginalEvent", "original_event"]

Identity = tuple[int, int, int]
"""(channelNumber, runNumber, eventNumber)."""


@dataclass(frozen=True)
class OriginalEvent:
    """Jets and missing transverse momentum of one event.

    Attributes:
        jets: good jets by falling pT, columns `pt` [GeV], `eta`, `phi`, each of shape (jets,).
        is_b: which of them are b-tagged.
        met_pt: missing transverse momentum [GeV].
        met_phi: its azimuth.
    """

    jets: dict[str, NDArray[np.float32]]
    is_b: NDArray[np.bool_]
    met_pt: float
    met_phi: float


def original_event(
    source: Mapping[str, Any], identity: Identity, *, tree: str, jets: JetSettings, timeout: int = 60
) -> OriginalEvent:
    """Reads one event again.

    Args:
        source: of its shard: `file`, and the entries `start` to `stop` that the shard was made from.
        identity: of the event.
        tree: name of the tree in the file.
        jets: what a jet and a b-jet is.
        timeout: how long a server may be silent [s].

    Raises:
        FailureError: the file cannot be read now, or does not hold the event there.
    """
    try:
        record = _record(str(source["file"]), tree, identity, (source["start"], source["stop"]), timeout)
    except (OSError, KeyError, ValueError, ImportError, uproot.DeserializationError) as error:
        message = f"event {identity[2]} cannot be read again from {source['file']} ({type(error).__name__})"
        raise FailureError(message) from error
    every = Ragged.of(record.jet, JET_FIELDS)
    good = every.where(good_jets(every, jets))
    return OriginalEvent(
        {name: good[name] for name in ("pt", "eta", "phi")},
        good["btag"] >= jets.b_jet_passes,
        float(record.met.pt[0]),
        float(record.met.phi[0]),
    )


def _record(file: str, tree: str, identity: Identity, entries: tuple[int, int], timeout: int) -> Any:
    """The record of one event, `schema.event_record`; only its identity is read of the events around it."""
    options = source_options(timeout)
    with uproot.open({file: tree}, **options) as opened:
        release = release_of(opened.keys())
        names = [BRANCHES[release]["event"][name] for name in ("channel", "run", "event")]
        found = opened.arrays(names, entry_start=entries[0], entry_stop=entries[1], library="np")
    channel, run, event = (found[name] for name in names)
    if release == "2020":
        event = event.astype(np.int32).view(np.uint32)  # stored as int32, negative above 2^31
    same = np.flatnonzero((channel == identity[0]) & (run == identity[1]) & (event == np.uint64(identity[2])))
    if not len(same):
        message = f"{file} has no event {identity}"
        raise ValueError(message)
    entry = entries[0] + int(same[0])
    factory = NanoEventsFactory.from_root(
        {file: tree},
        schemaclass=OpenDataSchema,
        mode="virtual",
        entry_start=entry,
        entry_stop=entry + 1,
        uproot_options=options,
    )
    return event_record(factory.events())
