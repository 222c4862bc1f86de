"""Numbers behind the comparison of data and simulation in the score: what is seen, and what it is compared with.

Compared are the whole region, each flavour combination, and for each process the part of the scores and flavours in
which it is the largest. The background is that of held-out events, as in the stacks. Nothing above the blinding limit
is read out of the histograms but the background that decides where the limit lies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import hypot, sqrt
from typing import Any, Final, Literal

import hist
import numpy as np
import numpy.typing as npt

from processors.agreement import Agreement, agreement
from processors.constants import FLAVOUR_COMBINATION
from processors.histograms import held_out, rebinned
from report.processes import Floats, Process, processes_of
from report.stacks import Stack, stack_contents

__all__ = [
    "MODES",
    "Comparison",
    "Part",
    "Scores",
    "compare_part",
    "compare_processes",
    "parts_of",
    "sideband_limit",
]

MODES: Final[tuple[Literal["absolute", "shape"], ...]] = ("absolute", "shape")

_LEPTONS: Final = ("e", "\u03bc")
_STEMS: Final = ("e", "mu")


@dataclass(frozen=True)
class Comparison:
    """Data and simulation in one part of the scores that are shown.

    Attributes:
        name: "all", a flavour combination ("emu"), or the key of a process.
        label: what a person reads, mathtext allowed.
        data: number of events.
        expected: events of the simulated background.
        error: standard error of the expected number, from the statistics of the simulation.
        found: result by normalisation ("absolute", "shape"); None where too few events are expected.
        purity: of a process: its part of the expected events; None otherwise.
        color: of a process; empty otherwise.
    """

    name: str
    label: str
    data: float
    expected: float
    error: float
    found: Mapping[str, Agreement | None]
    purity: float | None = None
    color: str = ""

    @property
    def ratio(self) -> float | None:
        """Data over simulation; None where none is expected."""
        return self.data / self.expected if self.expected > 0 else None

    @property
    def ratio_error(self) -> float | None:
        """Standard error of the ratio: of data and simulation."""
        if self.ratio is None:
            return None
        return hypot(sqrt(self.data) / self.expected, self.ratio * self.error / self.expected)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types."""
        return {
            "name": self.name,
            "data": self.data,
            "expected": self.expected,
            "error": self.error,
            "purity": self.purity,
            **{
                mode: found and {"chi2": found.chi2, "ndf": found.ndf, "p": found.p}
                for mode, found in self.found.items()
            },
        }


@dataclass(frozen=True)
class Scores:
    """The score histogram of a region and what of it may be seen.

    Attributes:
        histogram: axes dataset, split, flcomp, score; nominal weights.
        datasets: metadata of each dataset.
        limit: score above which data are blinded; None shows all.
        searched: part of the data that the model was not trained on.
    """

    histogram: hist.Hist
    datasets: Mapping[str, Mapping[str, Any]]
    limit: float | None
    searched: float

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of each dataset of the histogram."""
        return {name: str(self.datasets[name]["kind"]) for name in self.histogram.axes[0]}

    @cached_property
    def shown(self) -> hist.Hist:
        """The histogram with held-out background, at the luminosity of the data that are shown."""
        return held_out(self.histogram, self.kinds, searched=self.searched)

    @cached_property
    def flavours(self) -> list[int]:
        """Numbers of the flavour combinations."""
        return [int(number) for number in self.histogram.axes["flcomp"]]

    def rows(self, kind: str, members: Sequence[str] = ()) -> list[int]:
        """Positions of the datasets of a kind, or those of the members."""
        return [
            row
            for row, (name, of) in enumerate(self.kinds.items())
            if of == kind and (not members or name in members)
        ]


@dataclass(frozen=True)
class Part:
    """A part of the events whose score is drawn.

    Attributes:
        name: stem of file names: "all", or a flavour combination, "emu".
        label: what a person reads.
        stack: the score, without blinded data.
        flavour: number of the combination; None for all.
    """

    name: str
    label: str
    stack: Stack
    flavour: int | None


def sideband_limit(histogram: hist.Hist, kinds: Mapping[str, str], part: float) -> float:
    """The highest edge of the score below which at most this part of the expected background lies.

    Args:
        histogram: axes dataset, flcomp, score.
        kinds: dataset -> "data", "background" or "signal"; background alone decides.
        part: of the background.
    """
    joined = rebinned(histogram, dict(kinds))
    rows = [row for row, name in enumerate(joined.axes[0]) if kinds[name] == "background"]
    contents = np.asarray(joined.values(flow=True))[rows].sum(axis=(0, 1))
    below = np.maximum.accumulate(np.cumsum(contents))[:-1]  # below each edge
    edges = np.asarray(joined.axes[-1].edges)
    within = np.flatnonzero(below <= part * contents.sum())
    return float(edges[within[-1]] if len(within) else edges[0])


def _flavour_names(number: int, names: Sequence[str]) -> str:
    """Write a flavour combination, "eμ" or "emu"."""
    for counts, known in FLAVOUR_COMBINATION.items():
        if known == number:
            return "".join(name * times for name, times in zip(names, counts, strict=True))
    return str(number)


def parts_of(scores: Scores) -> list[Part]:
    """All events, and each flavour combination that has any."""
    parts = []
    for flavour in (None, *scores.flavours):
        chosen = scores.shown if flavour is None else scores.shown[{"flcomp": hist.loc(flavour)}]
        stack = stack_contents(chosen, scores.datasets, max_overlays=0, blind=scores.limit)
        stack = replace(stack, held_out=scores.searched == 1)
        if flavour is None:
            parts.append(Part("all", "all flavours", stack, None))
        elif stack.total.values.any() or (stack.data is not None and stack.data.values.any()):
            name, label = (_flavour_names(flavour, names) for names in (_STEMS, _LEPTONS))
            parts.append(Part(name, label, stack, flavour))
    return parts


def _compared(data: Floats, expected: Floats, variance: Floats, edges: Floats) -> dict[str, Agreement | None]:
    return {mode: agreement(data, expected, variance, edges, normalise=mode) for mode in MODES}


def compare_part(scores: Scores, part: Part) -> Comparison:
    """Compare what the stacked figure of a part shows."""
    stack, number = part.stack, part.flavour
    seen, total = stack.shown, stack.total
    data = stack.data.values[seen] if stack.data is not None else np.zeros(int(seen.sum()))
    edges = stack.edges[: int(seen.sum()) + 1]
    view = _folded(scores.shown)
    below = np.asarray(scores.shown.axes[-1].edges)[1:] <= edges[-1] + 1e-9
    chosen = np.zeros(view.shape[2:], dtype=bool)
    chosen[slice(None) if number is None else scores.flavours.index(number), below] = True
    return Comparison(
        name=part.name,
        label=part.label,
        data=float(data.sum()),
        expected=float(total.values[seen].sum()),
        error=_error(scores, view, chosen),
        found=_compared(data, total.values[seen], total.variances[seen], edges),
    )


def _folded(histogram: hist.Hist) -> Floats:
    """Σw and Σw² with what lies outside the score's edges in the first and last bin.

    Returns:
        Shape (2, datasets, flavour combinations with that of no number, bins).
    """
    view = histogram.view(flow=True)
    content = np.stack([view["value"], view["variance"]])
    content[..., 1] += content[..., 0]
    content[..., -2] += content[..., -1]
    return np.asarray(content[..., 1:-1])


def _error(scores: Scores, view: Floats, chosen: npt.NDArray[np.bool_]) -> float:
    """Statistical error of the expected background in some cells of flavour and score.

    The held-out events of a dataset say which part of it lies there, with the error of a ratio, and all of its events
    how many there are: as `models.efficiency.Strata` has it.

    Args:
        scores: of the region.
        view: from `_folded`.
        chosen: shape of the last two axes of the view.
    """
    contents: Any = scores.histogram.view(flow=True)
    whole = contents["variance"].reshape(len(contents), -1).sum(axis=1) * scores.searched**2
    rows = scores.rows("background")
    (total, total2), (inside, inside2) = (
        view[:, rows].sum(axis=(2, 3)),
        view[:, rows][..., chosen].sum(axis=2),
    )
    own = np.divide(inside, total, out=np.zeros_like(total), where=total > 0)
    variance = inside2 * (1 - own) ** 2 + (total2 - inside2) * own**2 + own**2 * whole[rows]
    return float(np.sqrt(variance.sum()))


def compare_processes(scores: Scores) -> list[Comparison]:
    """Compare where each process is the largest, if at least one event is expected there."""
    joined = rebinned(scores.shown, scores.kinds)
    view = _folded(joined)
    edges = np.asarray(joined.axes[-1].edges)
    seen = np.ones(len(edges) - 1, dtype=bool)
    if scores.limit is not None:
        seen = edges[1:] <= scores.limit + 1e-9
    processes = [process for process in processes_of(scores.datasets) if process.kind == "background"]
    decides = _folded(_deciding(scores, joined))
    shares, decided = (
        np.stack([content[0, scores.rows("background", p.datasets)].sum(axis=0) for p in processes])
        for content in (view, decides)
    )
    expected = view[:, scores.rows("background")].sum(axis=1)
    data = np.where(seen, view[0, scores.rows("data")].sum(axis=0), 0.0)
    largest = np.where((decided.sum(axis=0) > 0) & seen, decided.argmax(axis=0), -1)
    found = [
        _of_process(scores, process, view, expected, data, shares[number], largest == number)
        for number, process in enumerate(processes)
        if expected[0, largest == number].sum() >= 1
    ]
    return sorted(found, key=lambda comparison: -comparison.expected)


def _deciding(scores: Scores, joined: hist.Hist) -> hist.Hist:
    """Simulation that tells which process is the largest: other events than those that are compared.

    Of the same events, those bins would be chosen in which the other processes have fluctuated down.

    Args:
        scores: of the region.
        joined: `scores.shown`, in joined bins of the score.
    """
    if scores.searched < 1:  # all simulated events are compared
        return joined
    names = list(scores.histogram.axes.name)
    place = names.index("split")
    view: Any = scores.histogram.view(flow=True)
    others = hist.Hist(*list(scores.shown.axes), storage=hist.storage.Weight())
    others.view(flow=True)[...] = view.take([0, 1], axis=place).sum(axis=place)
    merged = len(others.axes[-1]) // len(joined.axes[-1])
    return others[{others.ndim - 1: hist.rebin(merged)}] if merged > 1 else others


def _of_process(
    scores: Scores,
    process: Process,
    view: Floats,
    expected: Floats,
    data: Floats,
    share: Floats,
    chosen: npt.NDArray[np.bool_],
) -> Comparison:
    values, variances = expected[:, chosen]
    return Comparison(
        name=process.key,
        label=process.label,
        data=float(data[chosen].sum()),
        expected=float(values.sum()),
        error=_error(scores, view, chosen),
        # Cells of flavour and score have no common axis: they are numbered.
        found=_compared(data[chosen], values, variances, np.arange(len(values) + 1.0)),
        purity=float(share[chosen].sum() / values.sum()),
        color=process.color,
    )
