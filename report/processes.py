"""Physics processes of a sample and their spectra: histograms summed over the datasets of each process."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from fileset.exceptions import FailureError, InputError
from processors.histograms import held_out, rebinned
from report.style import FALLBACK_COLORS

__all__ = [
    "Floats",
    "Process",
    "Spectrum",
    "choose_signals",
    "dataset_spectra",
    "process_spectrum",
    "processes_of",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Process:
    """One entry of a legend: the collision data, a background group, or one signal.

    Attributes:
        key: name of the group ("Zjets"), or of the dataset's process for a signal ("C1N2_450_300").
        label: what a person reads, mathtext allowed.
        color: colour in hexadecimal form.
        kind: "data", "background" or "signal".
        family: the group a signal belongs to; equal to the key otherwise.
        datasets: names of its datasets.
    """

    key: str
    label: str
    color: str
    kind: str
    family: str
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class Spectrum:
    """Contents of one histogram.

    Attributes:
        values: sum of weights per bin, shape (n,).
        variances: sum of squared weights per bin, shape (n,).
        underflow: sum of weights below the first edge, already part of the first bin.
        overflow: sum of weights above the last edge, already part of the last bin.
    """

    values: Floats
    variances: Floats
    underflow: float = 0.0
    overflow: float = 0.0

    @property
    def total(self) -> float:
        """Sum of weights, with everything outside the edges."""
        return float(self.values.sum())

    @property
    def error(self) -> float:
        """Standard error of the total, √Σw²."""
        return float(np.sqrt(self.variances.sum()))

    def __add__(self, other: "Spectrum") -> "Spectrum":
        return Spectrum(
            self.values + other.values,
            self.variances + other.variances,
            self.underflow + other.underflow,
            self.overflow + other.overflow,
        )

    def scaled(self, factor: float) -> "Spectrum":
        """The same spectrum with every weight multiplied by a factor."""
        return Spectrum(
            self.values * factor, self.variances * factor**2, self.underflow * factor, self.overflow * factor
        )


def _signal_label(metadata: Mapping[str, Any]) -> str:
    """Label of one signal: that of its family, and the masses and choices that tell it from its siblings."""
    model: Mapping[str, Any] = metadata.get("model") or {}
    masses = [f"{value:g}" for key, value in model.items() if key.endswith("_GeV")]
    details = [", ".join(masses) + " GeV"] if masses else []
    details += [str(value) for key, value in model.items() if not key.endswith("_GeV")]
    return f"{metadata['label']} ({', '.join(details)})" if details else str(metadata["label"])


def processes_of(datasets: Mapping[str, Mapping[str, Any]]) -> list[Process]:
    """Group the datasets: data, backgrounds by group, and each signal process by itself.

    Args:
        datasets: the metadata of each dataset, as in ``fileset.json``.

    Returns:
        The processes in the order in which their first dataset appears.
    """
    found: dict[tuple[str, str], Process] = {}
    for name, metadata in datasets.items():
        kind = str(metadata["kind"])
        signal = kind == "signal"
        key = str(metadata["process"] if signal else metadata["group"])
        known = found.get((kind, key))
        if known is not None:
            found[kind, key] = replace(known, datasets=(*known.datasets, name))
            continue
        fallback = FALLBACK_COLORS[len(found) % len(FALLBACK_COLORS)]
        found[kind, key] = Process(
            key=key,
            label=_signal_label(metadata) if signal else str(metadata["label"]),
            color=str(metadata.get("color") or fallback),
            kind=kind,
            family=str(metadata["group"]),
            datasets=(name,),
        )
    return list(found.values())


def choose_signals(
    processes: Sequence[Process],
    totals: Mapping[str, float],
    *,
    wanted: Iterable[str] = (),
    largest_number: int = 4,
) -> list[Process]:
    """Choose which signals are laid over a stack.

    Args:
        processes: all processes of the sample.
        totals: sum of weights per signal key.
        wanted: process names or families asked for by the user; empty chooses the most abundant member of
            each of the first families.
        largest_number: of signals, when none are asked for.

    Raises:
        InputError: a wanted name is neither a signal nor a family of this sample.
    """
    signals = [process for process in processes if process.kind == "signal"]
    wanted = tuple(wanted)
    if not signals:
        return []
    names = {name for process in signals for name in (process.key, process.family)}
    for name in wanted:
        if name not in names:
            message = f"report.signals: no signal is called {name!r}; known are {', '.join(sorted(names))}"
            raise InputError(message)
    if wanted:
        return [process for process in signals if process.key in wanted or process.family in wanted]
    best: dict[str, Process] = {}
    for process in signals:
        known = best.get(process.family)
        if known is None or totals.get(process.key, 0.0) > totals.get(known.key, 0.0):
            best[process.family] = process
    return list(best.values())[:largest_number]


def _contents(histogram: hist.Hist) -> tuple[list[str], Floats]:
    """Read (Σw, Σw²) of every bin with flow, shape (2, datasets, bins + 2)."""
    view = histogram.view(flow=True)
    content = np.stack([view["value"], view["variance"]]).astype(np.float64)
    content = content.sum(axis=tuple(range(2, len(histogram.axes))))
    traits = histogram.axes[-1].traits
    before, after = int(not traits.underflow), int(not traits.overflow)
    return list(histogram.axes[0]), np.pad(content, ((0, 0), (0, 0), (before, after)))


def _fold(content: Floats) -> Spectrum:
    """Add what lies outside the edges to the first and last bin; content has shape (2, bins + 2)."""
    inner = content[:, 1:-1].copy()
    inner[:, 0] += content[:, 0]
    inner[:, -1] += content[:, -1]
    return Spectrum(inner[0], inner[1], float(content[0, 0]), float(content[0, -1]))


def dataset_spectra(
    histogram: hist.Hist, datasets: Mapping[str, Mapping[str, Any]]
) -> tuple[Floats, dict[str, Spectrum]]:
    """Read the spectrum of each dataset, with what lies outside the edges in the first and last bin.

    A histogram with a split axis (a score) gives, for background simulation, the held-out events scaled to
    the sum of weights of all splits: the model has seen the others. Data and signals were never trained on
    and count with all events, and so does a dataset of which no event was held out.

    Args:
        histogram: axes [dataset, (split,) ..., variable], storage Weight.
        datasets: the metadata of each dataset.

    Returns:
        The bin edges, shape (n + 1,), and a spectrum for each dataset of ``datasets`` the histogram has.

    Raises:
        FailureError: the histogram holds a dataset that has no metadata, or it is not of this form.
    """
    names = [axis.name for axis in histogram.axes]
    if names[0] != "dataset" or histogram.storage_type is not hist.storage.Weight:
        message = f"the histogram with axes {names} is not one of weights by dataset; run the stage again"
        raise FailureError(message)
    for name in histogram.axes[0]:
        if name not in datasets:
            message = f"histograms.json holds the dataset {name!r}, which select.json does not list; run select again"
            raise FailureError(message)
    kinds = {name: str(datasets[name]["kind"]) for name in histogram.axes[0]}
    if "split" in names:
        histogram = held_out(histogram, kinds)
    if names[-1] == "score":
        histogram = rebinned(histogram, kinds)
    found, content = _contents(histogram)
    spectra = {name: _fold(content[:, position]) for position, name in enumerate(found)}
    return np.asarray(histogram.axes[-1].edges, dtype=np.float64), spectra


def process_spectrum(process: Process, spectra: Mapping[str, Spectrum], bins: int) -> Spectrum:
    """Sum the spectra of the datasets of a process; a dataset without events adds nothing."""
    total = Spectrum(np.zeros(bins), np.zeros(bins))
    for name in process.datasets:
        if name in spectra:
            total += spectra[name]
    return total
