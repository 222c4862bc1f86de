"""The compare stage: cells of the matrix from shards into histograms, and which inputs agree with data.

The feature table's histograms exist since the select stage. A shard has more than 500 columns: they are read with Arrow
some rows at a time, twenty times as fast as one by one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
import pyarrow.parquet as pq
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors.agreement import Agreement, agreement
from processors.cells import MOMENTS, Batch, fill_cells, one_cell
from processors.histograms import nominal
from processors.receipts import write_receipt
from processors.regions import tally
from processors.settings import ComparisonSettings
from processors.shards import check_whole

__all__ = ["ComparisonProcessor", "compared", "inputs_of"]

# Rows that are read at a time: 35 MB of a 23 x 23 matrix.
BATCH_ROWS = 16_384

Floats = NDArray[np.float64]


class ComparisonProcessor(ProcessorABC):
    """Fills the histograms of all cells of the matrix from the shards of one region.

    Args:
        cells: their columns in the shards.
        convention: of the matrix.
        scales: dataset -> factor on its weights.
        directory: of the receipts, writable from every worker.
    """

    def __init__(
        self,
        *,
        cells: Sequence[str],
        convention: str,
        scales: Mapping[str, float],
        directory: Path,
    ) -> None:
        self.cells = list(cells)
        self.convention = convention
        self.scales = dict(scales)
        self.directory = directory

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One shard.

        Returns:
            `receipts`: chunk -> receipt.
        """
        begin = time.perf_counter()
        dataset, path = events.metadata["dataset"], Path(events.metadata["filename"])
        chunk = f"{dataset}/{path.stem}"
        check_whole(path, events.metadata["checksum"])
        file = pq.ParquetFile(path)
        weight = file.read(columns=["weight"])["weight"].to_numpy() * self.scales[dataset]
        histograms = fill_cells(
            self.cells, self._batches(file, weight), dataset=dataset, convention=self.convention
        )
        receipt = {
            "config_hash": events.metadata["config_hash"],
            "dataset": dataset,
            "source": {"file": f"{chunk}.parquet", "uuid": "", "start": 0, "stop": len(weight)},
            "events_read": len(weight),
            "cutflow": {"all": tally(weight)},
            "shard": None,
            "seconds": time.perf_counter() - begin,
        }
        return {"receipts": {chunk: write_receipt(self.directory, chunk, receipt, histograms)}}

    def _batches(self, file: pq.ParquetFile, weight: Floats) -> Any:
        start = 0
        for rows in file.iter_batches(batch_size=BATCH_ROWS, columns=self.cells):
            values = np.array([rows.column(cell).to_numpy() for cell in self.cells], dtype=np.float32)
            batch: Batch = (values, weight[start : start + rows.num_rows])
            start += rows.num_rows
            yield batch

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left to do."""
        return accumulator


def compared(
    features: Mapping[str, hist.Hist],
    cells: Mapping[str, hist.Hist],
    datasets: Mapping[str, Mapping[str, Any]],
    settings: ComparisonSettings,
    *,
    blinded: bool = False,
) -> dict[str, Any]:
    """Compares data with simulation in every variable and every cell that is filled.

    Args:
        features: name -> histogram with first axis `dataset` and the variable last.
        cells: from `cells.add_absent`; empty where the shards have no matrix.
        datasets: the manifest's.
        settings: normalisation and thresholds.
        blinded: data of this region must not be looked at.

    Returns:
        The region's part of agreement.json: `status` ("compared", "no data", "blinded"), `normalise`, `thresholds`,
        `inputs`: name -> `chi2`, `ndf`, `chi2_ndf`, `p`, `deviation` (`low`, `high`, `pull`), all None where they
        cannot be told; `filled` (part of the events with this object; None for features) in `data` and `simulation`;
        `kept` and `reason`.
    """
    kinds = {name: str(book["kind"]) for name, book in datasets.items()}
    has_data = any(kind == "data" and datasets[name]["rows"] for name, kind in kinds.items())
    result: dict[str, Any] = {
        "status": "blinded" if blinded else "compared" if has_data else "no data",
        "normalise": settings.normalise,
        "thresholds": settings.model_dump(include={"max_chi2_ndf", "min_p", "max_deviation"}),
        "inputs": {},
    }
    if result["status"] != "compared":
        return result
    for name, histogram in features.items():
        result["inputs"][name] = _judged(nominal(histogram), kinds, settings, is_cell=False)
    names = {cell for kind, whole in cells.items() if kind != MOMENTS for cell in whole.axes[1]}
    for name in sorted(names):
        result["inputs"][name] = _judged(one_cell(cells, name), kinds, settings, is_cell=True)
    return result


def _judged(
    histogram: hist.Hist, kinds: Mapping[str, str], settings: ComparisonSettings, *, is_cell: bool
) -> dict[str, Any]:
    """One entry of `inputs`."""
    data, _ = _content(histogram, kinds, "data")
    expected, variance = _content(histogram, kinds, "background")
    filled = {
        kind: float(content[1:].sum() / content.sum()) if content.sum() else None
        for kind, content in (("data", data), ("simulation", expected))
    }
    n, m, s2 = (_inner(content, keep_underflow=not is_cell) for content in (data, expected, variance))
    found = agreement(n, m, s2, histogram.axes[-1].edges, normalise=settings.normalise)
    objection = _objection(found, settings)
    return {
        "chi2": found and found.chi2,
        "ndf": found and found.ndf,
        "chi2_ndf": found and found.chi2 / found.ndf,
        "p": found and found.p,
        "deviation": found and asdict(found.deviation),
        "filled": filled if is_cell else None,
        "kept": not objection,
        "reason": objection if found else "too few events are expected for a comparison",
    }


def _content(histogram: hist.Hist, kinds: Mapping[str, str], kind: str) -> tuple[Floats, Floats]:
    """Σw and Σw² of all datasets of a kind, each of shape (bins + 2,)."""
    rows = [row for row, dataset in enumerate(histogram.axes[0]) if kinds[dataset] == kind]
    view: Any = histogram.view(flow=True)
    flat = view[rows].reshape(-1, view.shape[-1])
    return flat["value"].sum(axis=0), flat["variance"].sum(axis=0)


def _inner(content: Floats, *, keep_underflow: bool) -> Floats:
    """What lies outside the edges belongs to the first and last bin; absent objects belong nowhere."""
    inner = content[1:-1].copy()
    inner[0] += content[0] if keep_underflow else 0.0
    inner[-1] += content[-1]
    return inner


def _objection(found: Agreement | None, settings: ComparisonSettings) -> str:
    """Why an input is not kept; empty where it is."""
    if found is None:
        return ""
    chi2_ndf, pull = found.chi2 / found.ndf, abs(found.deviation.pull)
    objections = []
    if settings.max_chi2_ndf is not None and chi2_ndf > settings.max_chi2_ndf:
        objections.append(f"chi2/ndf {chi2_ndf:.3g} is above {settings.max_chi2_ndf:g}")
    if settings.min_p is not None and found.p < settings.min_p:
        objections.append(f"p {found.p:.2g} is below {settings.min_p:g}")
    if settings.max_deviation is not None and pull > settings.max_deviation:
        objections.append(f"a deviation of {pull:.3g} standard errors is above {settings.max_deviation:g}")
    return "; ".join(objections)


def inputs_of(region: str, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The list of inputs that a model of the region may be trained on: inputs.json beside the shards.

    Args:
        region: name.
        manifest: of its shards.
        result: from `compared`.
    """
    known = dict.fromkeys(name for names in manifest["features"].values() for name in names)
    dropped = {name: entry["reason"] for name, entry in result["inputs"].items() if not entry["kept"]}
    return {
        "format": 1,
        "region": region,
        "config_hash": manifest["config_hash"],
        "complete": manifest["complete"],
        "status": result["status"],
        "kept": [name for name in known if name not in dropped],
        "dropped": {name: reason for name, reason in dropped.items() if name in known},
    }
