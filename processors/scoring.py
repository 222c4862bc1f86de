"""The coffea processor of the score stage: shards in; per-event scores and score histograms out.

A model is met only through `score`, `features` of what a loader named "module:function" returns, so that this room
imports no machine-learning library and a worker that only selects never does.
"""

import importlib
import time
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors.histograms import score_histogram
from processors.receipts import write_receipt
from processors.regions import tally
from processors.shards import write_shard
from processors.split import split_of
from processors.weights import NOMINAL

__all__ = ["ScoreProcessor", "Scorer"]


class Scorer(Protocol):
    """What a loader returns."""

    features: list[str]

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (n,) of n events; larger is more anomalous."""
        ...


class ScoreProcessor(ProcessorABC):
    """Scores the shards of one region with one model.

    The model is not kept here: coffea unpickles a processor for every chunk, and the loader keeps it once a worker.

    Args:
        region: name.
        n_leptons: of the region.
        name: of the model.
        model: path of its bundle.
        loader: "module:function" that loads a bundle and remembers it.
        variables: columns of the shards that are carried along.
        variations: of the weight, the nominal one first.
        scales: dataset -> factor on its weights.
        seed: of the split into training, validation and test.
        scores: directory of the scores, writable from every worker.
        config_hashes: shard path -> hash of everything its scores depend on.
    """

    def __init__(
        self,
        *,
        region: str,
        n_leptons: int,
        name: str,
        model: Path,
        loader: str,
        variables: list[str],
        variations: list[str],
        scales: dict[str, float],
        seed: int,
        scores: Path,
        config_hashes: dict[str, str],
    ) -> None:
        self.region = region
        self.n_leptons = n_leptons
        self.name = name
        self.model = model
        self.loader = loader
        self.variables = variables
        self.variations = variations
        self.scales = scales
        self.seed = seed
        self.scores = scores
        self.config_hashes = config_hashes

    def _scorer(self) -> Scorer:
        module, _, function = self.loader.partition(":")
        scorer: Scorer = getattr(importlib.import_module(module), function)(self.model)
        return scorer

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One shard.

        Returns:
            `receipts`: chunk -> receipt; `histograms`: "<region>/score/<model>" -> histogram.
        """
        begin = time.perf_counter()
        dataset = events.metadata["dataset"]
        chunk = f"{dataset}/{Path(events.metadata['filename']).stem}"
        scorer = self._scorer()
        inputs = np.empty((len(events), len(scorer.features)), dtype=np.float32)
        for column, feature in enumerate(scorer.features):
            inputs[:, column] = np.asarray(events[feature])
        identity = {name: np.asarray(events[name]) for name in ("channelNumber", "runNumber", "eventNumber")}
        # The nominal weight is `weight`, a variation `weight_<variation>`; collision data have no variations.
        weights = {
            variation: np.asarray(events["weight" if variation == NOMINAL else f"weight_{variation}"])
            * self.scales[dataset]
            for variation in self.variations
        }
        is_data = events.metadata["kind"] == "data"
        columns = {
            **identity,
            "weight": weights[NOMINAL],
            **{f"weight_{name}": weight for name, weight in weights.items() if name != NOMINAL},
            "flcomp": np.asarray(events["flcomp"]),
            "split": split_of(*identity.values(), seed=self.seed),
            "score": scorer.score(inputs),
            **{name: np.asarray(events[name]) for name in self.variables},
        }
        histogram = score_histogram(
            dataset,
            self.n_leptons,
            split=columns["split"],
            flcomp=columns["flcomp"],
            score=columns["score"],
            weights={NOMINAL: weights[NOMINAL]} if is_data else weights,
            variations=self.variations,
        )
        histograms = {f"{self.region}/score/{self.name}": histogram}
        path = f"{chunk}.parquet"
        receipt = {
            "config_hash": self.config_hashes[path],
            "dataset": dataset,
            "source": {"file": path, "uuid": "", "start": 0, "stop": len(events)},
            "events_read": len(events),
            "cutflow": {"all": tally(weights[NOMINAL])},
            "shard": {"path": path, **write_shard(self.scores / path, columns)},
            "seconds": time.perf_counter() - begin,
        }
        return {
            "receipts": {chunk: write_receipt(self.scores, chunk, receipt, histograms)},
            "histograms": histograms,
        }

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do."""
        return accumulator
