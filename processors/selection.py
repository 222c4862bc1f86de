"""The coffea processor of the select stage: events in; shards, histograms and a receipt out."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import hist
import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors.features import feature_table
from processors.histograms import feature_histogram, histogrammed, variables_of
from processors.objects import SelectedEvents, rmm_objects
from processors.receipts import write_receipt
from processors.regions import apply_region, flavour_combination, tally
from processors.rmm import layout_of, rapidity_mass_matrix
from processors.schema import event_record
from processors.settings import RegionSettings, RMMSettings, WeightSettings
from processors.shards import write_shard
from processors.weights import NOMINAL, corrected_weights, event_weights, variation_names

__all__ = ["Selected", "SelectionProcessor", "chunk_name"]


def chunk_name(dataset: str, uuid: str, start: int, stop: int) -> str:
    """Name of a chunk and of its files, without ending: a chunk that is done twice writes the same files."""
    return f"{dataset}/{uuid}_{start}-{stop}"


class Selected(NamedTuple):
    """The n selected events of a chunk."""

    columns: dict[str, NDArray[Any]]  # of the shard, each of shape (n,)
    features: dict[str, NDArray[np.float32]]  # those of them that are features
    weights: dict[str, NDArray[np.float64]]  # by variation; collision data have the nominal one alone
    cutflow: dict[str, tuple[int, float, float]]
    events_read: int

    def receipt(
        self, metadata: Mapping[str, Any], *, config_hash: str, shard: Mapping[str, Any] | None, begin: float
    ) -> dict[str, Any]:
        """What is written down of the chunk, see `receipts.write_receipt`.

        Args:
            metadata: of coffea's events.
            config_hash: of everything the chunk depends on.
            shard: what `write_shard` said, and `path`; None where nothing passed.
            begin: when work on the chunk began, by `time.perf_counter` [s].
        """
        return {
            "config_hash": config_hash,
            "dataset": metadata["dataset"],
            "source": {
                "file": metadata["filename"],
                "uuid": metadata["fileuuid"],
                "start": metadata["entrystart"],
                "stop": metadata["entrystop"],
            },
            "events_read": self.events_read,
            "cutflow": self.cutflow,
            "shard": shard,
            "seconds": time.perf_counter() - begin,
        }


class SelectionProcessor(ProcessorABC):
    """Selects one region, writes a shard and a receipt for each chunk, and fills histograms.

    Args:
        name: of the region.
        region: its cuts.
        weights: which weight factors.
        rmm: which matrix.
        shards: directory of the region's shards, writable from every worker.
        config_hashes: dataset -> hash of everything its result depends on.
    """

    def __init__(
        self,
        *,
        name: str,
        region: RegionSettings,
        weights: WeightSettings,
        rmm: RMMSettings,
        shards: Path,
        config_hashes: dict[str, str],
    ) -> None:
        self.name = name
        self.region = region
        self.weights = weights
        self.rmm = rmm
        self.shards = shards
        self.config_hashes = config_hashes

    @property
    def collections(self) -> list[str]:
        """What is read of the schema."""
        photons = ["photon"] if self.rmm.write and self.rmm.photons > 0 else []
        return ["event", "met", "lepton", "jet", *photons]

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One chunk.

        Returns:
            `receipts`: chunk -> receipt (see `receipts`); `histograms`: "<region>/<feature>" -> histogram.
        """
        begin = time.perf_counter()
        metadata = events.metadata
        dataset, start, stop = metadata["dataset"], metadata["entrystart"], metadata["entrystop"]
        chunk = chunk_name(dataset, metadata["fileuuid"], start, stop)
        chosen = self.selected(events)
        histograms = self._histograms(dataset, chosen)
        shard = None
        if len(chosen.columns["weight"]):
            path = f"{chunk}.parquet"
            shard = {"path": path, **write_shard(self.shards / path, chosen.columns)}
        receipt = chosen.receipt(metadata, config_hash=self.config_hashes[dataset], shard=shard, begin=begin)
        return {
            "receipts": {chunk: write_receipt(self.shards, chunk, receipt, histograms)},
            "histograms": histograms,
        }

    def selected(self, events: ak.Array) -> Selected:
        """What is selected of a chunk, as it stands in a shard."""
        metadata = events.metadata
        record = event_record(events, photons="photon" in self.collections)
        weights = event_weights(record, metadata, self.weights)
        selected, cutflow = apply_region(record, weights.weight(), self.region)
        features = feature_table(selected, self.region.columns)
        varied = corrected_weights(weights, selected.index, features, metadata, self.weights)
        if self.weights.corrections:
            cutflow["corrections"] = tally(varied[NOMINAL])
        columns = self._columns(record, selected, features, varied)
        return Selected(columns, features, varied, cutflow, len(record))

    def _columns(
        self,
        record: ak.Array,
        selected: SelectedEvents,
        features: dict[str, NDArray[np.float32]],
        weights: dict[str, NDArray[np.float64]],
    ) -> dict[str, NDArray[Any]]:
        """The columns of the shard; every simulated and every data shard of a region has the same."""
        columns: dict[str, NDArray[Any]] = {
            "channelNumber": np.asarray(record.channel)[selected.index].astype(np.int32),
            "runNumber": np.asarray(record.run)[selected.index].astype(np.int32),
            "eventNumber": np.asarray(record.event)[selected.index],
            "weight": weights[NOMINAL],
        }
        for variation in variation_names(self.weights)[1:]:
            columns[f"weight_{variation}"] = weights.get(variation, weights[NOMINAL])
        columns["flcomp"] = flavour_combination(selected)
        columns |= features
        if self.rmm.write and len(selected):
            columns |= self._matrix_columns(selected)
        return columns

    def _histograms(self, dataset: str, chosen: Selected) -> dict[str, hist.Hist]:
        own = variables_of(self.region.columns)
        return {
            f"{self.name}/{feature}": feature_histogram(
                feature,
                dataset,
                self.region.n_leptons,
                flcomp=chosen.columns["flcomp"],
                values=chosen.features[feature],
                weights=chosen.weights,
                variations=variation_names(self.weights),
                variable=own.get(feature),
            )
            for feature in (*histogrammed(tuple(chosen.features)), *own)
        }

    def _matrix_columns(self, selected: SelectedEvents) -> dict[str, NDArray[np.float32]]:
        layout = layout_of(self.rmm)
        matrix = rapidity_mass_matrix(
            rmm_objects(selected, self.region.jets),
            ak.zip({"pt": selected.met_pt, "phi": selected.met_phi}),
            layout,
            convention=self.rmm.convention,
        )
        return dict(zip(layout.cell_names, matrix.reshape(len(selected), -1).T, strict=True))

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do: weights are normalised event by event."""
        return accumulator
