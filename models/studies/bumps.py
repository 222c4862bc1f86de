"""Bump hunt: the window of a mass spectrum with the least probable excess, and how probable one like it is anywhere.

The hyper-test of Choudalakis, arXiv:1101.0390, as pyBumpHunter does it: of all windows of neighbouring bins up to
half of them, the one whose excess has the smallest Poisson probability (local p); the share of pseudo-experiments
with a smaller one is the global p. Pseudo-experiments are made here, since the expectation is a simulation of few
events, each event lies in all masses, and both belong to what "by chance" means:

- the expectation fluctuates as simulated events do (scaled Poisson, Bohm and Zech, NIM A 748 (2014) 1) before
  collision events are drawn from it, while the scan always compares with the nominal expectation;
- events are drawn in all masses at once, so that the probability over all masses knows how they go together.

Only shapes are compared: the expectation has the number of events that it is compared with.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Binning", "Hunt", "counted", "hunt_bumps", "mass_bins", "smallest_p"]

Floats = NDArray[np.float64]

_NEIGHBOURHOOD: Final = 1.35  # ratio of masses within which the weights of events are alike
_NARROWEST: Final = 1.0  # GeV, bins are no narrower
_CHUNK: Final = 4_000_000  # numbers of one chunk of pseudo-experiments


@dataclass(frozen=True)
class Binning:
    """Bins of one mass; the outermost two hold everything beyond them.

    Attributes:
        edges: [GeV], rising, shape (b + 1,).
    """

    edges: Floats

    def __len__(self) -> int:
        return len(self.edges) - 1

    def index(self, mass: ArrayLike) -> NDArray[np.intp]:
        """Number of the bin of each event, shape (n,)."""
        return np.searchsorted(self.edges[1:-1], np.asarray(mass), side="right")


@dataclass(frozen=True)
class Hunt:
    """What a hunt in one mass has found.

    Attributes:
        bins: of the mass.
        observed: events in each bin, shape (b,).
        expected: of as many events, shape (b,).
        error: of the simulation in what is expected, shape (b,).
        window: first bin of the most significant window and the one behind its last.
        local_p: probability of at least as many events in this window.
        passed: pseudo-experiments whose smallest local p is not larger.
        toys: all of them.
    """

    bins: Binning
    observed: Floats
    expected: Floats
    error: Floats
    window: tuple[int, int]
    local_p: float
    passed: int
    toys: int

    def to_dict(self) -> dict[str, Any]:
        """In plain JSON types."""
        first, last = self.window
        inside = slice(first, last)
        return {
            "edges": self.bins.edges.tolist(),
            "observed": self.observed.tolist(),
            "expected": self.expected.tolist(),
            "error": self.error.tolist(),
            "window": {
                "low": float(self.bins.edges[first]),
                "high": float(self.bins.edges[last]),
                "observed": float(self.observed[inside].sum()),
                "expected": float(self.expected[inside].sum()),
                "expected_error": float(np.sqrt((self.error[inside] ** 2).sum())),
            },
            "local_p": self.local_p,
            "global_p": counted(self.passed, self.toys),
        }


def counted(passed: int, toys: int) -> dict[str, Any]:
    """A probability from pseudo-experiments with its binomial error; where none passed, the limit 1/N."""
    share = passed / toys
    return {
        "value": share if passed else 1 / toys,
        "error": float(np.sqrt(share * (1 - share) / toys)) if passed else None,
        "limit": not passed,
        "toys": toys,
    }


def mass_bins(mass: Floats, weight: Floats, *, resolution: float, fewest: float) -> Binning | None:
    """Bins as wide as a narrow bump, or wider where simulation is scarce; None where it fills less than three.

    Args:
        mass: of expected events [GeV], shape (n,).
        weight: shape (n,).
        resolution: relative width of the finest bins, which are 1 GeV wide at least.
        fewest: effective events, (Σw)²/Σw², in each bin at least; also in units of the weight of an event around it.
    """
    positive = mass[mass > 0]
    if not len(positive):
        return None
    low, high = np.quantile(positive, [0.001, 0.999])
    grid = [float(low)]
    while grid[-1] < high:
        grid.append(grid[-1] + max(resolution * grid[-1], _NARROWEST))
    fine = np.array(grid)
    place = np.searchsorted(fine[1:-1], mass, side="right")
    sumw, sumw2 = (
        np.bincount(place, weights=w, minlength=len(fine) - 1).astype(np.float64) for w in (weight, weight**2)
    )
    needed = fewest * _weight_of_an_event(fine, sumw, sumw2)
    edges, content = [float(fine[0])], np.zeros(2)
    for i in range(len(fine) - 1):
        content += (sumw[i], sumw2[i])
        enough = content[0] > 0 and content[0] ** 2 >= fewest * content[1]
        if enough and content[0] >= needed[i]:
            edges.append(float(fine[i + 1]))
            content[:] = 0.0
    if len(edges) < 4:
        return None
    edges[-1] = float(fine[-1])  # what is left over belongs to the last bin
    return Binning(np.array(edges))


def _weight_of_an_event(edges: Floats, sumw: Floats, sumw2: Floats) -> Floats:
    """Weight Σw²/Σw of an event around each bin, (b,).

    Where a process with few heavy events has none by chance, the light ones of others alone would say that next to
    nothing is expected, and know it well. Its neighbours tell how heavy the events are that may be missing.
    """
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (sumw, sumw2)]
    centre = (edges[1:] + edges[:-1]) / 2
    low, high = (
        np.clip(np.searchsorted(edges, centre * factor), 0, len(sumw))
        for factor in (1 / _NEIGHBOURHOOD, _NEIGHBOURHOOD)
    )
    around, around2 = (part[high] - part[low] for part in sums)
    heavy: Floats = np.divide(around2, around, out=np.full_like(around, np.inf), where=around > 0)
    return heavy


def smallest_p(observed: ArrayLike, expected: ArrayLike) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """The smallest local p of each of many spectra, and where it is.

    Args:
        observed: shape (t, b).
        expected: shape (t, b) or (b,).

    Returns:
        Smallest probability of at least as many events in a window, its first bin, its width: each (t,).
    """
    from scipy.special import gammainc  # noqa: PLC0415 - --help must be quick

    seen, reference = np.atleast_2d(observed), np.atleast_2d(expected)
    cumulative = [np.pad(np.cumsum(part, axis=1), ((0, 0), (1, 0))) for part in (seen, reference)]
    best = np.ones(len(seen))
    first, width = np.zeros(len(seen), np.intp), np.ones(len(seen), np.intp)
    for w in range(1, _widest(seen.shape[1]) + 1):
        n, b = (
            np.broadcast_to(part[:, w:] - part[:, :-w], (len(seen), seen.shape[1] + 1 - w))
            for part in cumulative
        )
        p = np.ones(n.shape)
        excess = (n > b) & (b > 0)
        p[excess] = gammainc(n[excess], b[excess])
        place = p.argmin(axis=1)
        value = p[np.arange(len(p)), place]
        better = value < best
        best[better], first[better], width[better] = value[better], place[better], w
    return best, first, width


def _widest(bins: int) -> int:
    """Largest number of bins in a window."""
    return max(1, bins // 2)


def hunt_bumps(
    simulated: Mapping[str, Floats],
    weight: Floats,
    drawn: Floats,
    observed: Mapping[str, Floats] | None,
    bins: Mapping[str, Binning],
    *,
    expected_events: float,
    toys: int,
    rng: np.random.Generator,
) -> tuple[dict[str, Hunt], dict[str, Any] | None]:
    """Hunt for bumps in several masses of the same events.

    Args:
        simulated: masses of the expected events by name, each (n,).
        weight: of expected events, (n,).
        drawn: the same without signs, (n,): no pseudo-experiment can have fewer than no events.
        observed: masses of the collision events by name, each (m,); None draws as many as are expected, without any
            signal.
        bins: of each mass.
        expected_events: mean number of collision events, for those that are drawn.
        toys: pseudo-experiments.
        rng: source of random numbers.

    Returns:
        What was found in each mass, and the probability that any of them has so small a global p; nothing and None
        where there is no collision event.
    """
    cells = _cells(simulated, weight, drawn, bins)
    if observed is None:
        number = float(rng.poisson(expected_events))
        events = rng.multinomial(int(number), cells.sumw / cells.sumw.sum())
        seen = {name: cells.spectrum(name, events[np.newaxis])[0] for name in bins}
    else:
        seen = {
            name: np.bincount(binning.index(observed[name]), minlength=len(binning)).astype(np.float64)
            for name, binning in bins.items()
        }
        number = float(len(next(iter(observed.values()))))
    if not number:
        return {}, None
    smallest = _pseudo_experiments(cells, bins, number, toys, rng)
    hunts = {}
    for name, binning in bins.items():
        place = binning.index(simulated[name])
        sumw, sumw2 = (np.bincount(place, weights=w, minlength=len(binning)) for w in (weight, weight**2))
        scale = number / float(sumw.sum())
        expected = np.maximum(sumw, 0.0) * scale
        hunts[name] = _hunt(binning, seen[name], expected, np.sqrt(sumw2) * scale, smallest[name])
    return hunts, _over_all(hunts, smallest)


@dataclass(frozen=True)
class _Cells:
    """Expected events in cells of all masses together, of which pseudo-experiments are drawn."""

    sumw: Floats  # (c,)
    sumw2: Floats  # (c,)
    index: dict[str, NDArray[np.intp]]  # bin of each cell in each mass, (c,)
    bins: Mapping[str, Binning]

    def spectrum(self, name: str, cells: NDArray[Any]) -> Floats:
        """Contents of cells, (t, c), as spectra of one mass, (t, b)."""
        order = np.argsort(self.index[name], kind="stable")
        number = np.bincount(self.index[name], minlength=len(self.bins[name]))
        cumulative = np.pad(np.cumsum(cells[:, order], axis=1, dtype=np.float64), ((0, 0), (1, 0)))
        spectrum: Floats = np.diff(cumulative[:, np.concatenate([[0], np.cumsum(number)])], axis=1)
        return spectrum


def _cells(
    masses: Mapping[str, Floats], weight: Floats, drawn: Floats, bins: Mapping[str, Binning]
) -> _Cells:
    used = (drawn > 0) & (weight != 0)
    index = {name: binning.index(masses[name][used]) for name, binning in bins.items()}
    shape = tuple(len(binning) for binning in bins.values())
    flat, place = np.unique(np.ravel_multi_index(tuple(index.values()), shape), return_inverse=True)
    # Squares of the true weights: cancellation by negative ones makes the expectation worse, not better known.
    return _Cells(
        sumw=np.bincount(place, weights=drawn[used]).astype(np.float64),
        sumw2=np.bincount(place, weights=weight[used] ** 2).astype(np.float64),
        index=dict(zip(bins, np.unravel_index(flat, shape), strict=True)),
        bins=bins,
    )


def _pseudo_experiments(
    cells: _Cells, bins: Mapping[str, Binning], number: float, toys: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Smallest local p of each background-only pseudo-experiment in each mass, each (toys,)."""
    nominal = {name: cells.spectrum(name, cells.sumw[np.newaxis])[0] for name in bins}
    equivalent, size = cells.sumw**2 / cells.sumw2, cells.sumw2 / cells.sumw
    found: dict[str, list[Floats]] = {name: [] for name in bins}
    step = max(1, _CHUNK // len(cells.sumw))
    for start in range(0, toys, step):
        n = min(step, toys - start)
        fluctuated = rng.poisson(equivalent, size=(n, len(equivalent))) * size
        total = fluctuated.sum(axis=1, keepdims=True)
        fluctuated = np.where(total > 0, fluctuated, cells.sumw)
        events = rng.poisson(number * fluctuated / fluctuated.sum(axis=1, keepdims=True))
        for name in bins:
            spectrum = cells.spectrum(name, events)
            expected = nominal[name] / nominal[name].sum() * spectrum.sum(axis=1, keepdims=True)
            found[name].append(smallest_p(spectrum, expected)[0])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _hunt(binning: Binning, observed: Floats, expected: Floats, error: Floats, toys: Floats) -> Hunt:
    """Scan one spectrum with pyBumpHunter, against the pseudo-experiments that were made for it."""
    from pyBumpHunter import BumpHunter1D  # noqa: PLC0415 - imports pyplot

    state = np.random.get_state()  # noqa: NPY002 - pyBumpHunter seeds the global generator, which is not ours
    try:
        hunter = BumpHunter1D(
            bins=binning.edges, width_max=_widest(len(binning)), npe=len(toys), nworker=1, seed=0
        )
        hunter.min_Pval_ar = np.concatenate([[1.0], toys])
        hunter.min_loc_ar, hunter.min_width_ar = (np.zeros(len(toys) + 1, dtype=int) for _ in range(2))
        with redirect_stdout(io.StringIO()), np.errstate(divide="ignore"):
            hunter.bump_scan(observed, expected, is_hist=True, do_pseudo=False)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    first, width = int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])
    return Hunt(
        bins=binning,
        observed=observed,
        expected=expected,
        error=error,
        window=(first, first + width),
        local_p=float(hunter.min_Pval_ar[0]),
        passed=round(float(hunter.global_Pval) * len(toys)),
        toys=len(toys),
    )


def _over_all(hunts: Mapping[str, Hunt], smallest: Mapping[str, Floats]) -> dict[str, Any]:
    """Probability that the smallest global p of all masses is as small as the smallest that was found."""
    ranked: Sequence[Floats] = [
        np.searchsorted(np.sort(values), values, side="right") / len(values) for values in smallest.values()
    ]
    found = min(hunt.passed / hunt.toys for hunt in hunts.values())
    toys = len(ranked[0])
    return counted(int((np.min(ranked, axis=0) <= found).sum()), toys)
