"""Select: events to shards, histograms and cutflow."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from fileset.exceptions import FailureError
from processors.books import dataset_books, ledger, manifest_of, scaled_books
from processors.execution import Missing, run_chunks, unreadable, work_items
from processors.features import baseline_names, feature_sets, made_names
from processors.files import checksum, fingerprint
from processors.own_functions import digest_of
from processors.receipts import dependence
from processors.rmm import energy_cells, model_cells
from processors.schema import OpenDataSchema
from processors.selection import SelectionProcessor, chunk_name
from processors.settings import RegionSettings, RMMSettings, WeightSettings
from processors.stages.results import write_results
from processors.stages.resume import refuse, run_what_is_missing
from processors.taskgraph import run_chunks_as_graph
from processors.weights import check_corrections, variation_names
from processors.workers import Workers

__all__ = ["disk_needed", "input_recipe", "select_region", "selection_hashes"]

# What the result of a dataset depends on, beside the cuts; labels and colours change no number.
_DECISIVE_METADATA = ("kind", "norm", "release", "tree")

# What runs a processor over chunks.
_BACKENDS = {"coffea": run_chunks, "dask-awkward": run_chunks_as_graph}

# Bytes a selected event takes on disk, about: measured on the demo sample.
_BYTES_PER_EVENT = {True: 450, False: 180}


def disk_needed(fileset: Mapping[str, Any], rmm: RMMSettings) -> int:
    """Bytes that shards may take at most, about: as if every event passed."""
    entries = sum(file["num_entries"] for content in fileset.values() for file in content["files"].values())
    return int(entries * _BYTES_PER_EVENT[rmm.write])


def selection_hashes(
    fileset: Mapping[str, Any], *, region: RegionSettings, weights: WeightSettings, rmm: RMMSettings
) -> dict[str, str]:
    """Hash, for each dataset, of everything that its selected events depend on."""
    common = {
        "cuts": region.model_dump(exclude={"columns", "like"}),
        "weights": weights.model_dump(),
        "corrections": {name: checksum(c.file) for name, c in weights.corrections.items()},
        "rmm": rmm.model_dump(exclude={"removed"}),  # the shards hold every cell
        **_own_columns(region),
    }
    return {
        dataset: dependence({**common, **{k: content["metadata"].get(k) for k in _DECISIVE_METADATA}})
        for dataset, content in fileset.items()
    }


def input_recipe(region: RegionSettings, rmm: RMMSettings) -> dict[str, Any]:
    """What a feature of this name means: definitions of objects, and the convention of the matrix."""
    return {
        "leptons": region.leptons.model_dump(mode="json"),
        "jets": region.jets.model_dump(mode="json"),
        "rmm": rmm.model_dump(mode="json", exclude={"removed", "write"}),
        **_own_columns(region),
    }


def _own_columns(region: RegionSettings) -> dict[str, Any]:
    """Columns of the user's own, with the content of the modules that make them; nothing where there are none."""
    if not region.columns:
        return {}
    return {
        "columns": {
            name: {**column.model_dump(mode="json"), "content": digest_of(column.function)}
            for name, column in region.columns.items()
        }
    }


def select_region(
    fileset: Mapping[str, Any],
    *,
    name: str,
    region: RegionSettings,
    weights: WeightSettings,
    rmm: RMMSettings,
    workers: Workers,
    output: Path,
    allow_missing: bool = False,
) -> dict[str, Any]:
    """Selects one region: shards, manifest and histograms under output/shards/<region>, and its part of select.json.

    Args:
        fileset: the checked fileset of this region, with steps: each becomes a chunk.
        name: of the region.
        region: its cuts.
        weights: which weight factors.
        rmm: which matrix.
        workers: who do the work.
        output: directory of the whole analysis.
        allow_missing: scale incomplete simulated samples up to what they should be instead of refusing.

    Returns:
        `cuts`, `lumi_pb`, `datasets` (see `books.dataset_books`) and `ledger`.

    Raises:
        FailureError: chunks could not be read and that is not allowed; the ledger is written all the same.
    """
    check_corrections(weights, made_names(region))
    directory = output.absolute() / "shards" / name  # workers may run elsewhere
    dataset_hashes = selection_hashes(fileset, region=region, weights=weights, rmm=rmm)
    items = {
        chunk_name(i.dataset, str(uuid.UUID(bytes=i.fileuuid)), i.entrystart, i.entrystop): i
        for i in work_items(fileset)
    }
    processor = SelectionProcessor(
        name=name, region=region, weights=weights, rmm=rmm, shards=directory, config_hashes=dataset_hashes
    )
    receipts, histograms, missing = run_what_is_missing(
        items,
        {chunk: dataset_hashes[item.dataset] for chunk, item in items.items()},
        directory,
        processor,
        workers.executor(f"selecting {name}"),
        run=_BACKENDS[workers.settings.backend],
        known_missing=unreadable(fileset),
        schema=OpenDataSchema,
        timeout=workers.settings.timeout,
    )
    books = dataset_books(fileset, receipts)
    result = {
        "cuts": max((list(book["cutflow"]) for book in books.values()), key=len),
        "lumi_pb": next(iter(books.values()))["lumi_pb"],
        "datasets": books,
        "ledger": ledger(len(receipts), missing),
    }
    if missing and not allow_missing:
        refuse(missing, directory / "ledger.json")
    scales = _scales(books, missing)
    manifest = manifest_of(
        name,
        fingerprint(
            [dataset_hashes, scales, sorted(r["shard"]["checksum"] for r in receipts.values() if r["shard"])]
        ),
        books,
        receipts,
        scales,
        complete=not missing,
        lumi_pb=result["lumi_pb"],
        features={
            **feature_sets(region),
            "rmm": list(model_cells(rmm)),
            "rmm-energies": list(energy_cells(model_cells(rmm))),
        },
        variables=list(baseline_names(region.n_leptons)),
        variations=list(variation_names(weights)),
        recipe=input_recipe(region, rmm),
    )
    write_results(directory, manifest, {key: _scaled(h, scales) for key, h in histograms.items()})
    return {**result, "datasets": scaled_books(books, scales)}


def _scaled(histogram: hist.Hist, scales: Mapping[str, float]) -> hist.Hist:
    """A histogram with each dataset multiplied by its factor."""
    if all(scales[dataset] == 1 for dataset in histogram.axes[0]):
        return histogram
    scaled = histogram.copy()
    view: Any = scaled.view(flow=True)
    for position, dataset in enumerate(histogram.axes[0]):
        view["value"][position] *= scales[dataset]
        view["variance"][position] *= scales[dataset] ** 2
    return scaled


def _scales(books: Mapping[str, Mapping[str, Any]], missing: Sequence[Missing]) -> dict[str, float]:
    """What corrects the normalisation of incomplete simulated samples: entries expected over entries read.

    The normalisation divides by the generator weights of all events that were generated, also of those that the skim
    left out; how much of that sum belongs to the entries that are missing is written nowhere. Which entries they are
    has nothing to do with what is in them, so on average they have the mean weight of those that were read, and the
    ratio of entries is an unbiased correction. Its statistical error is that of the missing events themselves: for
    N selected of which a part f is missing, sqrt(f / N) of the yield.

    Raises:
        FailureError: collision data are missing, or nothing of a simulated sample could be read.
    """
    incomplete = {m.dataset: m for m in missing}
    scales = {}
    for dataset, book in books.items():
        if dataset not in incomplete:
            scales[dataset] = 1.0
            continue
        lost = incomplete[dataset]
        if book["kind"] == "data" or book["events_read"] == 0:
            message = (
                f"{lost.file}, entries {lost.start}-{lost.stop}: missing events of {dataset} cannot be made up for "
                f"({lost.cause}); repair the file and run again"
            )
            raise FailureError(message)
        scales[dataset] = book["events_expected"] / book["events_read"]
    return scales
