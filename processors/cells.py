"""Histograms of rapidity-mass-matrix cells: one for each kind of cell, with the cells of that kind as an axis.

Values that belong to no object (0) are not filled; the underflow of a finished histogram holds their sum of weights.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import hist
import numpy as np
import uhi.io.zip
from numpy.typing import NDArray

from processors.constants import SQRT_S
from processors.files import replace_atomically

__all__ = [
    "KINDS",
    "MOMENTS",
    "CellKind",
    "add_absent",
    "cell_label",
    "cell_moments",
    "fill_cells",
    "kind_of",
    "load_cells",
    "one_cell",
    "save_cells",
]

Batch = tuple[NDArray[np.float32], NDArray[np.float64]]

MOMENTS = "moments"
"""Name of the histogram of Σw, Σw² and Σwx of each cell's filled values."""

_OBJECTS = {"j": "j", "b": "b", "e": "e", "mu": r"\mu", "g": r"\gamma"}


@dataclass(frozen=True)
class CellKind:
    """Cells that share a binning.

    Attributes:
        edges: of the bins; energies in GeV.
        is_energy: values are over sqrt(s) in the convention `map2rmm`.
    """

    edges: tuple[float, ...]
    is_energy: bool = False


def _evenly(low: float, high: float, bins: int) -> tuple[float, ...]:
    return tuple(np.linspace(low, high, bins + 1).tolist())


KINDS: MappingProxyType[str, CellKind] = MappingProxyType(
    {
        "energy": CellKind(_evenly(0, 500, 50), is_energy=True),
        "mass": CellKind(_evenly(0, 1000, 50), is_energy=True),
        # Slightly negative values are legitimate where objects are ordered by pT and not by transverse energy.
        "imbalance": CellKind(_evenly(-0.1, 1.0, 22)),
        # C (cosh(dy) - 1) spans decades: five bins in each.
        "rapidity": CellKind(tuple(np.geomspace(1e-4, 10, 26).tolist())),
    }
)

_KIND_OF_PREFIX = {
    "met": "energy", "mt": "energy", "et": "energy", "m": "mass", "det": "imbalance", "hl": "rapidity", "h": "rapidity",
}  # fmt: skip


def kind_of(cell: str) -> str:
    """Key in `KINDS` of a cell's kind: "mass" of `m_j1_e2`."""
    return _KIND_OF_PREFIX[cell.split("_", 1)[0]]


def cell_label(cell: str) -> str:
    r"""What the cell holds, with mathtext: "$m(j_1, e_2)$" of `m_j1_e2`."""
    prefix, *names = cell.split("_")
    objects = [f"{_OBJECTS[name.rstrip('0123456789')]}_{{{name.lstrip('jbemug')}}}" for name in names]
    own = objects[0] if objects else ""
    if prefix == "det":
        number = int(names[0].lstrip("jbemug"))
        own = f"{_OBJECTS[names[0].rstrip('0123456789')]}_{{{number - 1}}}, {own}"
    quantity = {
        "met": "E_T^{miss}",
        "mt": f"m_T({own}, E_T^{{miss}})",
        "et": f"E_T({own})",
        "det": rf"\delta E_T({own})",
        "hl": rf"C(\cosh\,y-1), {own}",
    }.get(prefix)
    if quantity is None:
        pair = ", ".join(objects)
        quantity = f"m({pair})" if prefix == "m" else rf"C(\cosh\,\Delta y-1), {pair}"
    return f"${quantity}$"


def _edges(kind: str, convention: str) -> tuple[NDArray[np.float64], str]:
    """Bin edges and unit of a kind of cells."""
    edges = np.array(KINDS[kind].edges)
    if not KINDS[kind].is_energy:
        return edges, ""
    return (edges / SQRT_S, r" / $\sqrt{s}$") if convention == "map2rmm" else (edges, " [GeV]")


def _axes(dataset: str, cells: Sequence[str]) -> tuple[hist.axis.StrCategory, hist.axis.StrCategory]:
    return (
        hist.axis.StrCategory([dataset], growth=True, name="dataset"),
        hist.axis.StrCategory(cells, growth=True, name="cell"),
    )


def fill_cells(
    cells: Sequence[str], batches: Iterable[Batch], *, dataset: str, convention: str
) -> dict[str, hist.Hist]:
    """Histograms of all cells that are filled in some event.

    Args:
        cells: names.
        batches: some events at a time: values of shape (cells, n), weights of shape (n,).
        dataset: of the events.
        convention: of the matrix.

    Returns:
        Kind -> histogram with axes dataset, cell, value and storage Weight; `MOMENTS` -> histogram with axes dataset,
        cell, moment ("sumw", "sumw2", "sumwx") and storage Double. The underflow is empty, see `add_absent`.
    """
    kinds = np.array([kind_of(cell) for cell in cells])
    members = {kind: np.flatnonzero(kinds == kind) for kind in KINDS}
    edges = {kind: _edges(kind, convention) for kind in KINDS}
    content = {kind: np.zeros((2, len(members[kind]), len(edges[kind][0]) + 1)) for kind in KINDS}
    moments = np.zeros((3, len(cells)))
    for values, weight in batches:
        for kind, rows in members.items():
            own = values[rows]
            cell, event = np.nonzero(own)
            x, w = own[cell, event].astype(np.float64), weight[event]
            bins = content[kind].shape[2]
            # The first bin takes what lies below it: the underflow is for absent objects.
            place = cell * bins + np.maximum(np.searchsorted(edges[kind][0], x, side="right"), 1)
            for power in (0, 1):
                size = content[kind][power].size
                content[kind][power].flat += np.bincount(place, weights=w ** (power + 1), minlength=size)
            for number, summand in enumerate((w, w**2, w * x)):
                moments[number, rows] += np.bincount(cell, weights=summand, minlength=len(rows))
    names = np.array(cells)
    filled = {}
    for kind, rows in members.items():
        used = content[kind][1].any(axis=1)
        if used.any():
            axis = hist.axis.Variable(edges[kind][0], name="value", label=edges[kind][1])
            one = hist.Hist(*_axes(dataset, names[rows[used]].tolist()), axis, storage=hist.storage.Weight())
            one.view(flow=True)["value"][0], one.view(flow=True)["variance"][0] = content[kind][:, used]
            filled[kind] = one
    used = moments[1] > 0
    axis = hist.axis.StrCategory(["sumw", "sumw2", "sumwx"], name="moment")
    filled[MOMENTS] = hist.Hist(*_axes(dataset, names[used].tolist()), axis, storage=hist.storage.Double())
    if used.any():
        filled[MOMENTS].view(flow=True)[0, :, :3] = moments[:, used].T
    return filled


def add_absent(
    histograms: Mapping[str, hist.Hist], totals: Mapping[str, tuple[float, float]], cells: Sequence[str]
) -> dict[str, hist.Hist]:
    """The same histograms, sorted, with the events in which an object is absent in the underflow.

    Args:
        histograms: from `fill_cells`, added up.
        totals: dataset -> Σw and Σw² of its events.
        cells: names of all cells in the order of the matrix.
    """
    finished = {}
    for kind, histogram in sorted(histograms.items()):
        datasets = sorted(histogram.axes[0])
        names = sorted(histogram.axes[1], key=cells.index)
        ordered = hist.Hist(
            hist.axis.StrCategory(datasets, growth=True, name="dataset"),
            hist.axis.StrCategory(names, growth=True, name="cell"),
            histogram.axes[2],
            storage=histogram.storage_type(),
        )
        place = np.ix_(histogram.axes[0].index(datasets), histogram.axes[1].index(names))
        ordered.view(flow=True)[...] = histogram.view(flow=True)[place]
        if kind != MOMENTS:
            for row, dataset in enumerate(datasets):
                for field, total in zip(("value", "variance"), totals[dataset], strict=True):
                    content = ordered.view(flow=True)[field][row]
                    absent = total - content.sum(axis=1)
                    # Where every event has the object only round-off is left.
                    content[:, 0] = np.where(np.abs(absent) > 1e-9 * abs(total), absent, 0.0)
        finished[kind] = ordered
    return finished


def save_cells(histograms: Mapping[str, hist.Hist], path: Path) -> None:
    """Writes a zip file in the UHI form, atomically: contents are NumPy arrays, ten times smaller than JSON."""
    with (
        replace_atomically(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in sorted(histograms):
            uhi.io.zip.write(file, name, histograms[name])


def load_cells(path: Path) -> dict[str, hist.Hist]:
    """The histograms that `save_cells` wrote: by kind of cell, and `MOMENTS`."""
    with zipfile.ZipFile(path) as file:
        names = sorted(name.removesuffix(".json") for name in file.namelist() if name.endswith(".json"))
        return {name: hist.Hist(uhi.io.zip.read(file, name)) for name in names}


def one_cell(histograms: Mapping[str, hist.Hist], cell: str) -> hist.Hist:
    """Histogram of one cell; axes dataset and the cell, labelled. The underflow holds the absent objects."""
    whole = histograms[kind_of(cell)]
    own = whole.axes[2]
    unit = own.label if own.label != own.name else ""  # hist gives the name where there is no label
    axis = hist.axis.Variable(own.edges, name=cell, label=f"{cell_label(cell)}{unit}")
    one = hist.Hist(
        hist.axis.StrCategory(list(whole.axes[0]), growth=True, name="dataset"),
        axis,
        storage=hist.storage.Weight(),
    )
    one.view(flow=True)[...] = whole.view(flow=True)[:, whole.axes[1].index(cell)]
    return one


def cell_moments(
    histograms: Mapping[str, hist.Hist], cells: Sequence[str], datasets: Iterable[str]
) -> NDArray[np.float64]:
    """Σw, Σw² and Σwx of the filled values of some datasets together, shape (3, cells); 0 where nothing is filled."""
    whole = histograms[MOMENTS]
    known_datasets, known_cells = list(whole.axes[0]), list(whole.axes[1])
    rows = [known_datasets.index(dataset) for dataset in datasets if dataset in known_datasets]
    found = dict(zip(known_cells, whole.view()[rows].sum(axis=0), strict=True))
    return np.array([found.get(cell, np.zeros(3)) for cell in cells]).T
