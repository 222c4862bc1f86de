"""Weighted histograms of features and scores: their axes, and their files for ROOT and in the UHI form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot
from numpy.typing import ArrayLike

from processors import histogram_text
from processors.constants import FLAVOUR_COMBINATION
from processors.files import replace_atomically
from processors.settings import ColumnSettings
from processors.split import SPLITS
from processors.weights import NOMINAL

__all__ = [
    "Variable",
    "feature_histogram",
    "held_out",
    "histogrammed",
    "is_complete",
    "left_for_search",
    "load_histograms",
    "nominal",
    "rebinned",
    "save_histograms",
    "save_root",
    "score_histogram",
    "variables_of",
]


@dataclass(frozen=True)
class Variable:
    """Binning and axis label of one variable."""

    bins: int
    low: float
    high: float
    label: str


_EVENT_VARIABLES = {
    "njet20": Variable(12, -0.5, 11.5, r"Number of jets, $p_T > 20$ GeV"),
    "njet60": Variable(10, -0.5, 9.5, r"Number of jets, $p_T > 60$ GeV"),
    "nbjet60": Variable(6, -0.5, 5.5, "Number of b-jets, 60% point"),
    "nbjet70": Variable(6, -0.5, 5.5, "Number of b-jets, 70% point"),
    "nbjet77": Variable(6, -0.5, 5.5, "Number of b-jets, 77% point"),
    "nbjet85": Variable(6, -0.5, 5.5, "Number of b-jets, 85% point"),
    "isOS": Variable(2, -0.5, 1.5, "Leading leptons of opposite charge"),
    "isSF": Variable(2, -0.5, 1.5, "Leading leptons of the same flavour"),
    "mll": Variable(50, 0, 500, r"$m_{\ell\ell}$ [GeV]"),
    "mlll": Variable(50, 0, 1000, r"$m_{\ell\ell\ell}$ [GeV]"),
    "mt2": Variable(40, 0, 200, r"$m_{T2}$ [GeV]"),
    "met_et": Variable(50, 0, 500, r"$E_T^{miss}$ [GeV]"),
    "met_phi": Variable(32, -3.2, 3.2, r"$\phi(E_T^{miss})$"),
    "costhstar": Variable(25, 0, 1, r"$\cos\theta^* = \tanh(|\Delta\eta_{\ell\ell}|/2)$"),
    "ht": Variable(50, 0, 1500, r"$H_T$ [GeV]"),
    "st": Variable(50, 0, 2000, r"$S_T$ [GeV]"),
    "meff": Variable(50, 0, 2500, r"$m_{eff}$ [GeV]"),
}

# Label with the lepton's number in place of N.
_LEPTON_VARIABLES = {
    "flav": Variable(5, 9.5, 14.5, r"Flavour of lepton N (11 e, 13 $\mu$)"),
    "pt": Variable(50, 0, 500, r"$p_T(\ell_N)$ [GeV]"),
    "eta": Variable(27, -2.7, 2.7, r"$\eta(\ell_N)$"),
    "phi": Variable(32, -3.2, 3.2, r"$\phi(\ell_N)$"),
    "E": Variable(50, 0, 1000, r"$E(\ell_N)$ [GeV]"),
    "ptcone30": Variable(40, 0, 20, r"$p_T^{cone30}(\ell_N)$ [GeV]"),
    "etcone20": Variable(40, -10, 20, r"$E_T^{cone20}(\ell_N)$ [GeV]"),
    "trackd0pvunbiased": Variable(50, -0.5, 0.5, r"$d_0(\ell_N)$ [mm]"),
    "tracksigd0pvunbiased": Variable(50, 0, 10, r"$|d_0|/\sigma(\ell_N)$"),
    "isTightID": Variable(2, -0.5, 1.5, r"Lepton N passes the tight identification"),
    "z0": Variable(50, -5, 5, r"$z_0(\ell_N)$ [mm]"),
}

# All in steps of 0.02, since some models give all background almost the same score (see `rebinned`), and wide enough
# for any network: errors of scaled inputs are of the order 1 or below; -ELBO is a sum over all inputs; a latent space
# that is not used has a divergence of almost 0. An isolation forest and tails are no logarithms: they have other steps.
_SCORES = {
    "mse": Variable(800, -6, 10, r"$\log_{10}$ reconstruction error"),
    "mae": Variable(600, -5, 7, r"$\log_{10}$ mean absolute error"),
    "distance": Variable(800, -6, 10, r"$\log_{10}$ (error + size / 2)"),
    "elbo": Variable(800, -4, 12, r"$\log_{10}(-$ELBO$)$"),
    "kl": Variable(1100, -12, 10, r"$\log_{10}$ Kullback-Leibler divergence"),
    "mu2": Variable(1100, -12, 10, r"$\log_{10}\Sigma\mu^2$"),
    "mahalanobis": Variable(800, -6, 10, r"$\log_{10}$ squared Mahalanobis distance"),
    "isolation-forest": Variable(500, 0, 1, "Isolation forest score"),
    "largest-tail": Variable(1000, 0, 100, r"Largest $-\ln\,P(X\geq x)$"),
    "tail-sum": Variable(1000, 0, 100, r"Mean of the largest $-\ln\,P(X\geq x)$"),
}

# Bins of a score that become one where it is shown or fitted: as many as leave the bulk of the background resolved.
_MERGED = (5, 2)
_BULK = (0.025, 0.975)
_BINS_IN_BULK = 6


def _variable(name: str) -> Variable | None:
    if name in _EVENT_VARIABLES:
        return _EVENT_VARIABLES[name]
    lepton, _, quantity = name.partition("_")
    if not lepton.startswith("lep") or quantity not in _LEPTON_VARIABLES:
        return None
    number = lepton.removeprefix("lep")
    found = _LEPTON_VARIABLES[quantity]
    label = found.label.replace("_N", f"_{number}").replace(" N", f" {number}")
    return Variable(found.bins, found.low, found.high, label)


def histogrammed(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that have a binning (the feature table and the baseline variables do)."""
    return tuple(name for name in names if _variable(name) is not None)


def variables_of(columns: Mapping[str, ColumnSettings]) -> dict[str, Variable]:
    """Binning and label of columns of the user's own."""
    return {name: Variable(c.bins, c.low, c.high, c.label or name) for name, c in columns.items()}


def _flavour_axis(n_leptons: int) -> hist.axis.IntCategory:
    numbers = sorted(number for flavours, number in FLAVOUR_COMBINATION.items() if sum(flavours) == n_leptons)
    return hist.axis.IntCategory(numbers or [-1], name="flcomp", label="flavour combination")


def _dataset_axis(dataset: str) -> hist.axis.StrCategory:
    """Grows when histograms are added; a dataset of which nothing is selected stands in it too."""
    return hist.axis.StrCategory([dataset], growth=True, name="dataset")


def _variation_axis(names: Sequence[str]) -> hist.axis.StrCategory:
    return hist.axis.StrCategory(names, name="variation", label="variation of the weight")


def feature_histogram(
    name: str,
    dataset: str,
    n_leptons: int,
    *,
    flcomp: ArrayLike,
    values: ArrayLike,
    weights: Mapping[str, ArrayLike],
    variations: Sequence[str] = (NOMINAL,),
    variable: Variable | None = None,
) -> hist.Hist:
    """Histogram of one feature of one dataset; axes dataset, variation, flcomp, the feature.

    Flavour combinations without a number, and values outside the axis, go to the flow bins: nothing is lost.

    Args:
        name: of the feature, one that `histogrammed` keeps.
        dataset: of the events.
        n_leptons: of the region.
        flcomp: flavour combination, shape (n,).
        values: of the feature, shape (n,).
        weights: variation -> shape (n,); collision data have only the nominal one.
        variations: all that the analysis has.
        variable: binning and label; by default those that are known by the name.
    """
    variable = variable or _variable(name)
    if variable is None:
        message = f"no binning is known for {name!r}"
        raise ValueError(message)
    axis = hist.axis.Regular(variable.bins, variable.low, variable.high, name=name, label=variable.label)
    filled = hist.Hist(
        _dataset_axis(dataset),
        _variation_axis(variations),
        _flavour_axis(n_leptons),
        axis,
        storage=hist.storage.Weight(),
    )
    for variation, weight in weights.items():
        filled.fill(
            dataset, variation, np.asarray(flcomp, np.int64), np.asarray(values), weight=np.asarray(weight)
        )
    return filled


def score_histogram(
    dataset: str,
    n_leptons: int,
    *,
    name: str = "mse",
    split: ArrayLike,
    flcomp: ArrayLike,
    score: ArrayLike,
    weights: Mapping[str, ArrayLike],
    variations: Sequence[str] = (NOMINAL,),
) -> hist.Hist:
    """Histogram of the score of one dataset; axes dataset, variation, split, flcomp, score.

    Args:
        dataset: of the events.
        n_leptons: of the region.
        name: of the score, which has its own range; those that are not known have that of "mse".
        split: index into `split.SPLITS`, shape (n,).
        flcomp: flavour combination, shape (n,).
        score: shape (n,).
        weights: variation -> shape (n,); collision data have only the nominal one.
        variations: all that the analysis has.
    """
    axis = _SCORES.get(name, _SCORES["mse"])
    filled = hist.Hist(
        _dataset_axis(dataset),
        _variation_axis(variations),
        hist.axis.StrCategory(SPLITS, name="split"),
        _flavour_axis(n_leptons),
        hist.axis.Regular(axis.bins, axis.low, axis.high, name="score", label=axis.label),
        storage=hist.storage.Weight(),
    )
    split, score, flcomp = np.asarray(split), np.asarray(score), np.asarray(flcomp, np.int64)
    for number, part in enumerate(SPLITS):
        of = split == number
        for variation, weight in weights.items():
            filled.fill(dataset, variation, part, flcomp[of], score[of], weight=np.asarray(weight)[of])
    return filled


def nominal(histogram: hist.Hist) -> hist.Hist:
    """The histogram of the nominal weight: without the axis of variations."""
    return histogram[{"variation": NOMINAL}] if "variation" in histogram.axes.name else histogram


def left_for_search(card: Mapping[str, Any]) -> float:
    """Part of the collision data that a model has not been trained or stopped on, from its card; 1 as a rule."""
    trained_on = card.get("trained_on", {})
    return float(trained_on["fractions"][-1]) if trained_on.get("kind") == "data" else 1.0


def held_out(histogram: hist.Hist, kinds: Mapping[str, str], *, searched: float = 1.0) -> hist.Hist:
    """A score histogram as it is compared with data: without the axis of splits.

    Background simulation gives its test events, which the model has not seen, scaled for each dataset and variation
    to the sum of weights of all its events. Data and signals were never trained on and count with all events, and
    so does a dataset of which no event was held out.

    Args:
        histogram: axes dataset, (variation,) split, flcomp, score.
        kinds: dataset -> "data", "background" or "signal".
        searched: part of the data that the model was not trained on, see `left_for_search`. Less than 1: of data only
            the test events count, and all events of simulation at the luminosity of these.
    """
    names = list(histogram.axes.name)
    position = names.index("split")
    test = histogram.axes[position].index(SPLITS[-1])
    out = hist.Hist(*[axis for axis in histogram.axes if axis.name != "split"], storage=hist.storage.Weight())
    view, filled = histogram.view(flow=True), out.view(flow=True)
    for number, dataset in enumerate(histogram.axes[0]):
        everything = view[number].sum(axis=position - 1)
        filled[number] = everything
        if searched < 1 and kinds[dataset] == "data":
            filled[number] = view[number].take(test, axis=position - 1)
        elif searched < 1:
            for field, power in (("value", 1), ("variance", 2)):
                filled[field][number] = everything[field] * searched**power
        if searched < 1 or kinds[dataset] != "background":
            continue
        kept = view[number].take(test, axis=position - 1)
        axes = tuple(range(position - 1, everything.ndim))  # all behind the variation
        total, part = (contents["value"].sum(axis=axes, keepdims=True) for contents in (everything, kept))
        usable = (part > 0) & (total > 0)
        factor = np.where(usable, total / np.where(usable, part, 1.0), 1.0)
        for field, power in (("value", 1), ("variance", 2)):
            filled[field][number] = np.where(usable, kept[field] * factor**power, everything[field])
    out.complete = is_complete(histogram)
    return out


def rebinned(histogram: hist.Hist, kinds: Mapping[str, str]) -> hist.Hist:
    """A score histogram as it is shown and fitted: in steps of 0.1, in finer ones where the background is narrow.

    Args:
        histogram: axes dataset, ..., score.
        kinds: dataset -> "data", "background" or "signal".

    Returns:
        The same sums in steps in which the central 95 % of the background take six bins, if the axis is fine enough.
    """
    of = [number for number, name in enumerate(histogram.axes[0]) if kinds[name] == "background"]
    contents = np.asarray(histogram.values(flow=True))[of] if of else np.asarray(histogram.values(flow=True))
    bins = np.maximum(contents.sum(axis=tuple(range(contents.ndim - 1))), 0.0)
    if not bins.sum() > 0:
        return histogram
    low, high = np.searchsorted(np.cumsum(bins) / bins.sum(), _BULK)
    fitting = (
        n for n in _MERGED if (high - low + 1) / n >= _BINS_IN_BULK and not len(histogram.axes[-1]) % n
    )
    merged = next(fitting, 1)
    return histogram if merged == 1 else histogram[{histogram.ndim - 1: hist.rebin(merged)}]


def _with_sorted_datasets(histogram: hist.Hist) -> hist.Hist:
    """Growing axes come back in the order in which chunks finished: sort, so that files do not depend on it."""
    axes = list(histogram.axes)
    names = list(axes[0])
    order = np.argsort(names)
    ordered = hist.Hist(
        hist.axis.StrCategory([names[i] for i in order], growth=True, name="dataset"),
        *axes[1:],
        storage=histogram.storage_type(),
    )
    ordered.view(flow=True)[...] = histogram.view(flow=True)[order]
    # In the UHI form this is the histogram's `metadata`.
    ordered.complete = is_complete(histogram)
    return ordered


def is_complete(histogram: hist.Hist) -> bool:
    """Whether nothing is missing of what a histogram was filled with; otherwise simulation was scaled up."""
    return bool(getattr(histogram, "complete", True))


def save_histograms(histograms: Mapping[str, hist.Hist], directory: Path) -> None:
    """Writes directory/histograms.json in the UHI form, atomically; names and datasets are sorted.

    Args:
        histograms: name -> histogram whose first axis is `dataset`.
        directory: where.
    """
    ordered = {name: _with_sorted_datasets(histograms[name]) for name in sorted(histograms)}
    with replace_atomically(directory / "histograms.json") as path:
        path.write_text(histogram_text.written(ordered), encoding="utf-8")


def save_root(histograms: Mapping[str, hist.Hist], directory: Path, groups: Mapping[str, str]) -> None:
    """Writes directory/histograms.root, atomically: one TH1 <name>/<group> summed over the other axes.

    Variations of the weight follow as <name>/<group>__<variation>. Splits are added up too: scores are given without
    that axis, see `held_out`. Where input is missing a string INCOMPLETE says so.

    Args:
        histograms: name -> histogram; first axis `dataset`, last the variable.
        directory: where.
        groups: dataset -> group of processes.
    """
    with replace_atomically(directory / "histograms.root") as path, uproot.recreate(path) as file:
        if not all(is_complete(histogram) for histogram in histograms.values()):
            file["INCOMPLETE"] = "input is missing and simulation scaled up: select.json names what"
        for name in sorted(histograms):
            histogram = histograms[name]
            if "variation" not in histogram.axes.name:  # mean errors of a model's inputs are no distribution
                continue
            summed = histogram.project("dataset", "variation", histogram.axes[-1].name)
            for group in sorted({groups[dataset] for dataset in summed.axes[0]}):
                members = [i for i, dataset in enumerate(summed.axes[0]) if groups[dataset] == group]
                contents = summed.view(flow=True)[members].sum(axis=0)
                for position, variation in enumerate(summed.axes[1]):
                    one = hist.Hist(summed.axes[2], storage=hist.storage.Weight())
                    one.view(flow=True)[...] = contents[position]
                    suffix = "" if variation == NOMINAL else f"__{variation}"
                    if not suffix or contents[position]["variance"].any():
                        file[f"{name}/{group}{suffix}"] = one


def load_histograms(path: Path) -> dict[str, hist.Hist]:
    """The histograms of a histograms.json."""
    return histogram_text.read(Path(path).read_text(encoding="utf-8"))
