"""What `throughput.py` measures: events to histograms through coffea's Runner, merely reading, and a stopwatch.

A module of its own, for processors that are pickled must be importable. Nothing of the product is changed: the
stopwatch replaces names by wrapped ones while it is installed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory
from coffea.nanoevents.mapping import UprootSourceMapping
from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem
from uproot.compression import _DecompressZLIB

import processors.selection
from fileset.coffea_forms import with_steps
from processors.dispatch import IterativeChunks
from processors.execution import run_chunks, work_items
from processors.features import feature_table
from processors.histograms import feature_histogram
from processors.objects import lepton_fields, rmm_objects
from processors.regions import apply_region, flavour_combination
from processors.rmm import layout_of, rapidity_mass_matrix
from processors.schema import OpenDataSchema, event_record
from processors.settings import REGIONS, RegionSettings, RMMSettings, WeightSettings
from processors.shards import write_shard
from processors.weights import event_weights

__all__ = ["EventsToHistogram", "Stopwatch", "branches_of", "chunks_of", "half_of", "read", "run"]


class EventsToHistogram(ProcessorABC):
    """Selection, features of one set, the weighted histogram of missing transverse momentum; shards if asked.

    Args:
        region: its cuts.
        features: "rmm" (529 cells) or "table".
        shards: directory of shards; none are written without one.
        sums: the sum of all cells too, to compare with.
    """

    def __init__(
        self, region: RegionSettings, features: str, shards: Path | None = None, *, sums: bool = False
    ) -> None:
        self.region, self.features, self.shards, self.sums = region, features, shards, sums

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One chunk."""
        metadata, region = events.metadata, self.region
        record = event_record(
            events, leptons=lepton_fields(region.leptons) if self.features == "rmm" else None
        )
        weight = event_weights(record, metadata, WeightSettings()).weight()
        selected, _ = apply_region(record, weight, region)
        columns: dict[str, Any] = {"weight": weight[selected.index]}
        if self.features == "table":
            columns |= feature_table(selected)
        elif len(selected):
            layout = layout_of(RMMSettings())
            met = ak.zip({"pt": selected.met_pt, "phi": selected.met_phi})
            matrix = rapidity_mass_matrix(rmm_objects(selected, region.jets), met, layout)
            columns |= dict(zip(layout.cell_names, matrix.reshape(len(selected), -1).T, strict=True))
        histogram = feature_histogram(
            "met_et",
            metadata["dataset"],
            region.n_leptons,
            flcomp=flavour_combination(selected),
            values=selected.met_pt,
            weights={"nominal": columns["weight"]},
        )
        if self.shards is not None and len(selected):
            name = f"{metadata['dataset']}-{metadata['entrystart']}.parquet"
            write_shard(self.shards / name, columns)
        cells = float(sum(c.sum(dtype=np.float64) for c in list(columns.values())[1:])) if self.sums else 0.0
        return {"selected": len(selected), "met_et": histogram, "cells": cells}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do."""
        return accumulator


def chunks_of(
    files: Mapping[str, str], tree: str, chunksize: int, *, release: str = "2020"
) -> list[WorkItem]:
    """The chunks of files: dataset -> path."""
    checked = {}
    for dataset, path in files.items():
        with uproot.open(path) as file:
            entries, uuid = file[tree].num_entries, str(file.file.uuid)
        kind = "data" if dataset.startswith("data") else "background"
        checked[dataset] = {
            "files": {path: {"object_path": tree, "num_entries": entries, "uuid": uuid, "steps": []}},
            "metadata": {
                "kind": kind,
                "norm": 1.0 if kind == "data" else 0.5,
                "release": release,
                "tree": tree,
            },
        }
    return work_items(with_steps(checked, chunksize))


def run(items: Sequence[WorkItem], processor: ProcessorABC) -> dict[str, Any]:
    """All chunks through coffea's Runner, one after the other, in this process."""
    out, missing = run_chunks(items, processor, IterativeChunks(desc="events"), schema=OpenDataSchema)
    if missing or out is None:
        message = f"chunks could not be done: {missing[:1]}"
        raise RuntimeError(message)
    return out


def branches_of(items: Sequence[WorkItem], processor: ProcessorABC) -> list[str]:
    """The branches that a processor reads, as coffea's own log of accesses has them."""
    read_: list[Any] = []
    item = items[0]
    factory = NanoEventsFactory.from_root(
        {item.filename: item.treename},
        schemaclass=OpenDataSchema,
        mode="virtual",
        access_log=read_,
        entry_stop=100,
        metadata={
            "dataset": item.dataset, "entrystart": 0, "fileuuid": "", "filename": item.filename,
            **item.usermeta, "kind": "background",
        },
    )  # fmt: skip
    processor.process(factory.events())
    return sorted({access.branch for access in read_})


def read(items: Sequence[WorkItem], branches: Sequence[str]) -> None:
    """Merely reads branches with uproot as it comes, in the same steps."""
    for item in items:
        with uproot.open({item.filename: item.treename}) as tree:
            tree.arrays(branches, entry_start=item.entrystart, entry_stop=item.entrystop)


def half_of(items: Sequence[WorkItem]) -> RegionSettings:
    """Two leptons, with a cut on the pT of the first that about half of all events pass."""
    leading = []
    for path in {item.filename for item in items}:
        with uproot.open(path) as file:
            leptons = file["mini"].arrays(["lep_pt", "lep_ptcone30", "lep_etcone20"], entry_stop=25_000)
        isolated = (leptons.lep_ptcone30 < 0.15 * leptons.lep_pt) & (
            leptons.lep_etcone20 < 0.15 * leptons.lep_pt
        )
        good = leptons.lep_pt[isolated]
        two = ak.num(good) == REGIONS["2L"].n_leptons
        leading.append(ak.to_numpy(ak.where(two, ak.fill_none(ak.max(good, axis=1), 0.0), 0.0)))
    median = float(np.median(np.concatenate(leading))) / 1000
    return REGIONS["2L"].model_copy(update={"lepton_pt_min": (median,)})


# Names as modules import them -> stage of the profile.
_STAGES = {
    "event_record": "select",
    "event_weights": "select",
    "corrected_weights": "select",
    "apply_region": "select",
    "flavour_combination": "select",
    "feature_table": "features",
    "rmm_objects": "RMM",
    "rapidity_mass_matrix": "RMM",
    "feature_histogram": "fill",
    "write_shard": "write",
    "write_receipt": "write",
}
_READING = (
    (NanoEventsFactory, "from_root", "read: opening"),
    (NanoEventsFactory, "events", "read: opening"),
    (UprootSourceMapping, "extract_column", "read: baskets"),
    (_DecompressZLIB, "decompress", "decompress"),
)


class Stopwatch:
    """Seconds by stage; what a stage calls of another one counts there alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._stack: list[float] = []

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            self._stack.append(0.0)
            try:
                return function(*args, **options)
            finally:
                took, inside = time.perf_counter() - begin, self._stack.pop()
                self.seconds[stage] += took - inside
                if self._stack:
                    self._stack[-1] += took

        return timed

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Names are replaced by those that take the time."""
        with ExitStack() as stack:
            for module in (globals(), vars(processors.selection)):
                wrapped = {
                    name: self._timed(stage, module[name])
                    for name, stage in _STAGES.items()
                    if name in module
                }
                stack.enter_context(patch.dict(module, wrapped))
            for owner, name, stage in _READING:
                stack.enter_context(patch.object(owner, name, self._timed(stage, getattr(owner, name))))
            yield

    def profile(self, work: Callable[[], Any]) -> dict[str, float]:
        """Seconds of each stage of some work, what is left, and `total`."""
        self.seconds.clear()
        with self.installed():
            begin = time.perf_counter()
            work()
            total = time.perf_counter() - begin
        rest = total - sum(self.seconds.values())
        return {**dict(self.seconds), "everything else": rest, "total": total}
