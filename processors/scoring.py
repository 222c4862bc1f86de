"""The coffea processors of the score stage: shards or events in; scores of each event and their histograms out.

A model is met only through `Scorer`, as what a loader named "module:function" returns, so that this room imports no
machine-learning library and a worker that only selects never does.
"""

import importlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import hist
import numpy as np
import pyarrow.parquet as pq
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors.histograms import score_histogram
from processors.receipts import write_receipt
from processors.regions import tally
from processors.residuals import residual_histogram, residual_sums
from processors.selection import SelectionProcessor, chunk_name
from processors.shards import check_whole, write_shard
from processors.split import SPLIT_FRACTIONS, split_of
from processors.weights import NOMINAL

__all__ = ["EventScoreProcessor", "Measured", "ScoreProcessor", "Scorer", "Scoring"]

# Events that are read at a time: 35 MB of a 23 x 23 matrix.
BATCH_ROWS = 16_384

Columns = dict[str, NDArray[Any]]


class Measured(Protocol):
    """What a model says of some events that follow one another."""

    @property
    def rows(self) -> slice:
        """Which of the events that were given."""
        ...

    @property
    def scores(self) -> Mapping[str, NDArray[np.float32]]:
        """Each score by its name, shape (n,); larger is more anomalous."""
        ...

    @property
    def residuals(self) -> NDArray[np.float32]:
        """Squared error of each scaled input, shape (n, k)."""
        ...


class Scorer(Protocol):
    """What a loader returns."""

    @property
    def features(self) -> Sequence[str]:
        """Columns that the model takes, in their order."""
        ...

    @property
    def score_names(self) -> Sequence[str]:
        """Its scores; the first is the one that is cut on."""
        ...

    def measures(self, features: NDArray[np.float32]) -> Iterable[Measured]:
        """Scores and residuals of n events, features of shape (n, k), some at a time and in order."""
        ...


@dataclass(frozen=True)
class Scoring:
    """With which model what is scored, and where scores go.

    The model is not kept here: coffea unpickles a processor for every chunk, and the loader keeps it once a worker.

    Attributes:
        region: name.
        n_leptons: of the region.
        name: of the model.
        model: path of its bundle.
        loader: "module:function" that loads a bundle and remembers it.
        variables: columns that are carried along.
        variations: of the weight, the nominal one first.
        seed: of the split into training, validation and test.
        directory: of the scores, writable from every worker.
        fractions: of the split.
    """

    region: str
    n_leptons: int
    name: str
    model: Path
    loader: str
    variables: Sequence[str]
    variations: Sequence[str]
    seed: int
    directory: Path
    fractions: tuple[float, float, float] = SPLIT_FRACTIONS

    def scorer(self) -> Scorer:
        """The model, from the loader."""
        module, _, function = self.loader.partition(":")
        scorer: Scorer = getattr(importlib.import_module(module), function)(self.model)
        return scorer

    @property
    def carried(self) -> list[str]:
        """Columns of a shard that its scores need or have, beside the model's features."""
        weights = ["weight" if name == NOMINAL else f"weight_{name}" for name in self.variations]
        return [*_IDENTITY, *weights, "flcomp", *self.variables]


_IDENTITY = ("channelNumber", "runNumber", "eventNumber")


def _scored(
    scoring: Scoring,
    scorer: Scorer,
    columns: Mapping[str, NDArray[Any]],
    batches: Iterable[NDArray[np.float32]],
    *,
    dataset: str,
    is_data: bool,
) -> tuple[Columns, dict[str, hist.Hist]]:
    """Columns of the scores, and their histograms, of some events of one dataset.

    Args:
        scoring: with which model.
        scorer: the model.
        columns: `scoring.carried`, each of shape (n,).
        batches: the model's features of all n events in order, some at a time.
        dataset: of the events.
        is_data: the events are collision data, which have no variations.
    """
    n, weight = len(columns["weight"]), np.asarray(columns["weight"], dtype=np.float64)
    split = split_of(*(columns[name] for name in _IDENTITY), seed=scoring.seed, fractions=scoring.fractions)
    scores = {name: np.empty(n, dtype=np.float32) for name in scorer.score_names}
    sums, start = np.zeros(1), 0
    for batch in batches:
        for measured in scorer.measures(batch):
            place = slice(start + measured.rows.start, start + measured.rows.stop)
            for name, values in measured.scores.items():
                scores[name][place] = values
            sums = sums + residual_sums(measured.residuals, weight[place], split[place])
        start += len(batch)
    weights = {
        name: columns["weight" if name == NOMINAL else f"weight_{name}"]
        for name in (scoring.variations[:1] if is_data else scoring.variations)
    }
    first, *others = scorer.score_names
    found = {
        **{name: columns[name] for name in scoring.carried[: -len(scoring.variables) or None]},
        "split": split,
        "score": scores[first],
        **{f"score_{name}": scores[name] for name in others},
        **{name: columns[name] for name in scoring.variables},
    }
    histograms = {
        f"{scoring.region}/score/{scoring.name}{'' if name == first else f'/{name}'}": score_histogram(
            dataset,
            scoring.n_leptons,
            name=name,
            split=split,
            flcomp=columns["flcomp"],
            score=values,
            weights=weights,
            variations=scoring.variations,
        )
        for name, values in scores.items()
    }
    if n:
        residuals = residual_histogram(dataset, scorer.features, sums)
        histograms[f"{scoring.region}/residuals/{scoring.name}"] = residuals
    return found, histograms


class ScoreProcessor(ProcessorABC):
    """Scores the shards of one region.

    Args:
        scoring: with which model.
        scales: dataset -> factor on its weights.
    """

    def __init__(self, scoring: Scoring, *, scales: Mapping[str, float]) -> None:
        self.scoring = scoring
        self.scales = dict(scales)

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One shard; its columns are read with Arrow, see `schema.ShardSchema`.

        Returns:
            `receipts`: chunk -> receipt; `histograms`: "<region>/score/<model>", further scores with
            "/<score>" behind it, and "<region>/residuals/<model>".
        """
        begin = time.perf_counter()
        scoring, dataset = self.scoring, events.metadata["dataset"]
        check_whole(Path(events.metadata["filename"]), events.metadata["checksum"])
        file = pq.ParquetFile(events.metadata["filename"])
        chunk = f"{dataset}/{Path(events.metadata['filename']).stem}"
        scorer = scoring.scorer()
        table = file.read(columns=scoring.carried)
        columns = {
            name: table[name].to_numpy() * (self.scales[dataset] if name.startswith("weight") else 1)
            for name in scoring.carried
        }
        scored, histograms = _scored(
            scoring,
            scorer,
            columns,
            _batches(file, scorer.features),
            dataset=dataset,
            is_data=events.metadata["kind"] == "data",
        )
        path = f"{chunk}.parquet"
        receipt = {
            "config_hash": events.metadata["config_hash"],
            "dataset": dataset,
            "source": {"file": path, "uuid": "", "start": 0, "stop": table.num_rows},
            "events_read": table.num_rows,
            "cutflow": {"all": tally(columns["weight"])},
            "shard": {"path": path, **write_shard(scoring.directory / path, scored)},
            "seconds": time.perf_counter() - begin,
        }
        return {
            "receipts": {chunk: write_receipt(scoring.directory, chunk, receipt, histograms)},
            "histograms": histograms,
        }

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do."""
        return accumulator


def _batches(file: pq.ParquetFile, features: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """The features of a shard, shape (b, k), some events at a time."""
    for rows in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(features))):
        yield _as_rows([rows.column(name).to_numpy() for name in features])


def _as_rows(columns: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Features of shape (n, k) from k columns, each of shape (n,)."""
    return np.ascontiguousarray(np.array(columns, dtype=np.float32).T)


class EventScoreProcessor(ProcessorABC):
    """Selects and scores the events of one region in one pass, without shards of features in between.

    Args:
        scoring: with which model.
        selection: makes the columns that the model takes.
        config_hashes: dataset -> hash of everything its scores depend on.
    """

    def __init__(
        self, scoring: Scoring, selection: SelectionProcessor, *, config_hashes: Mapping[str, str]
    ) -> None:
        self.scoring = scoring
        self.selection = selection
        self.config_hashes = dict(config_hashes)

    @property
    def collections(self) -> list[str]:
        """What is read of the schema."""
        return self.selection.collections

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One chunk of a ROOT file.

        Returns:
            As `ScoreProcessor.process`; a chunk that selects nothing has a receipt without a file of scores.
        """
        begin = time.perf_counter()
        metadata, scoring = events.metadata, self.scoring
        dataset, start, stop = metadata["dataset"], metadata["entrystart"], metadata["entrystop"]
        chunk = chunk_name(dataset, metadata["fileuuid"], start, stop)
        selected = self.selection.selected(events)
        scorer, columns = scoring.scorer(), selected.columns
        n = len(columns["weight"])
        places = (slice(first, first + BATCH_ROWS) for first in range(0, n, BATCH_ROWS))
        scored, histograms = _scored(
            scoring,
            scorer,
            columns,
            (_as_rows([columns[name][place] for name in scorer.features]) for place in places),
            dataset=dataset,
            is_data=metadata["kind"] == "data",
        )
        path = f"{chunk}.parquet"
        shard = {"path": path, **write_shard(scoring.directory / path, scored)} if n else None
        receipt = selected.receipt(
            metadata, config_hash=self.config_hashes[dataset], shard=shard, begin=begin
        )
        return {
            "receipts": {chunk: write_receipt(scoring.directory, chunk, receipt, histograms)},
            "histograms": histograms,
        }

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do."""
        return accumulator
