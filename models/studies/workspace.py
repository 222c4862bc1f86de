"""The score histogram as a HistFactory workspace, for pyhf and cabinetry.

One channel a region, one sample a process group and a signal. The background's statistical error is a `staterror`
(Barlow and Beeston, as HistFactory has it), every variation of the weight a `histosys`, every signal has a strength of
its own, and each measurement fits one signal with the others absent.
Format: HistFactory JSON, https://scikit-hep.org/pyhf/likelihood.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import hist
import numpy as np
from numpy.typing import NDArray

from processors.histograms import held_out, rebinned
from processors.weights import NOMINAL

__all__ = ["ScoreTemplates", "bins_with_support", "histfactory_workspace", "of_strengths", "score_templates"]

# Sums of weights and of squared weights.
Contents: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

# Fits need a positive expectation of background in every bin.
_FLOOR = 1e-6
# Strengths are fitted up to so many times the one that is about as large as the background's uncertainty.
_REACH = 50.0


def bins_with_support(values: NDArray[Any], variances: NDArray[Any], *, minimum: float) -> NDArray[np.int64]:
    """First positions of merged bins, each with at least `minimum` effective background events.

    Bins are merged from the right, where scores are high and events few; what is left over on the left joins the
    first bin.

    Args:
        values: sum of background weights, shape (n,).
        variances: sum of squared weights, shape (n,).
        minimum: of (sum w)^2 / sum w^2 in every merged bin.

    Returns:
        Rising positions that start with 0, for `np.add.reduceat`.
    """
    starts, value, variance = [], 0.0, 0.0
    for position in range(values.size - 1, -1, -1):
        value, variance = value + values[position], variance + variances[position]
        if variance > 0 and value > 0 and value**2 / variance >= minimum:
            starts.append(position)
            value, variance = 0.0, 0.0
    if not starts or starts[-1] != 0:
        starts = [*starts[:-1], 0]
    return np.array(starts[::-1], dtype=np.int64)


@dataclass(frozen=True)
class ScoreTemplates:
    """Expected numbers of events in the bins of a fit, for each variation of the weight.

    Attributes:
        edges: of the bins, shape (n + 1,); the outermost are infinite.
        variations: of the weight, names.
        nominal: position of the nominal one.
        groups: process groups of the background: Σw and Σw², each of shape (variations, n).
        signals: the same of each signal process.
        data: collision data, shape (n,); None where there are none.
    """

    edges: NDArray[np.float64]
    variations: list[str]
    nominal: int
    groups: dict[str, Contents]
    signals: dict[str, Contents]
    data: NDArray[np.float64] | None

    @property
    def background(self) -> Contents:
        """Σw and Σw² of the nominal background, each of shape (n,); fits need positive expectations."""
        values, variances = (sum(group[i][self.nominal] for group in self.groups.values()) for i in (0, 1))
        return np.maximum(values, _FLOOR), np.asarray(variances)

    @property
    def background_variations(self) -> NDArray[np.float64]:
        """Σw of the background in each variation, shape (variations, n)."""
        return np.asarray(sum(values for values, _ in self.groups.values()))

    def typical_strength(self, signal: str, *, systematic: float = 0.0) -> float:
        """The strength at which a signal is two standard deviations of the background, about where its limit is.

        Args:
            signal: name of its process.
            systematic: relative uncertainty of the background in each bin.

        Returns:
            Infinity for a signal of which nothing is expected.
        """
        s, (b, variance) = np.maximum(self.signals[signal][0][self.nominal], 0.0), self.background
        information = float(np.sum(s**2 / (b + variance + (systematic * b) ** 2)))
        return 2.0 / float(np.sqrt(information)) if information > 0 else float("inf")

    @property
    def finite_edges(self) -> NDArray[np.float64]:
        """The edges without the infinite ones, shape (n - 1,)."""
        return self.edges[1:-1]


def score_templates(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    minimum: float = 10.0,
    searched: float = 1.0,
) -> ScoreTemplates | None:
    """The histogram of a score in bins that background alone decides, see `bins_with_support`.

    Args:
        histogram: of the score; axes dataset, variation, split, flcomp, score.
        datasets: metadata of each dataset: `kind`, `group` and `process`.
        minimum: effective background events in every bin, at least.
        searched: part of the data that was left for the search, see `processors.histograms.left_for_search`.

    Returns:
        None where the fileset has no signal or no background.
    """
    kinds = {name: str(metadata["kind"]) for name, metadata in datasets.items()}
    compared = rebinned(held_out(histogram, kinds, searched=searched), kinds)
    compared = compared.project("dataset", "variation", "score")
    variations = list(compared.axes[1])
    contents = compared.view(flow=True)[:, : len(variations)]
    members: dict[str, dict[str, list[int]]] = {"background": {}, "signal": {}, "data": {}}
    for position, name in enumerate(compared.axes[0]):
        key = "process" if kinds[name] == "signal" else "group"
        members[kinds[name]].setdefault(str(datasets[name][key]), []).append(position)
    if not members["signal"] or not members["background"]:
        return None
    nominal = variations.index(NOMINAL)
    of_background = contents[[p for group in members["background"].values() for p in group], nominal]
    starts = bins_with_support(
        of_background["value"].sum(0), of_background["variance"].sum(0), minimum=minimum
    )

    def binned(positions: list[int]) -> Contents:
        values, variances = (
            np.add.reduceat(contents[field][positions].sum(axis=0), starts, axis=-1)
            for field in ("value", "variance")
        )
        return values, variances

    data = [position for group in members["data"].values() for position in group]
    return ScoreTemplates(
        edges=np.concatenate([[-np.inf], compared.axes[2].edges, [np.inf]])[[*starts, -1]],
        variations=variations,
        nominal=nominal,
        groups={name: binned(positions) for name, positions in members["background"].items()},
        signals={name: binned(positions) for name, positions in members["signal"].items()},
        data=binned(data)[0][nominal] if data else None,
    )


def histfactory_workspace(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    region: str,
    minimum: float = 10.0,
    blinded: bool = False,
    searched: float = 1.0,
) -> dict[str, Any] | None:
    """The workspace of a region.

    Args:
        histogram: of the score; axes dataset, variation, split, flcomp, score.
        datasets: metadata of each dataset: `kind`, `group`, `process`, and `scale` where a part of it is missing.
        region: name; also that of the channel.
        minimum: effective background events in every bin, at least; bins are merged.
        blinded: take the expected background in place of the data (also where there are none).
        searched: part of the data that was left for the search, see `processors.histograms.left_for_search`.

    Returns:
        HistFactory JSON, whose measurements are called "<process> (incomplete)" where simulation was scaled up for
        what is missing; None where the fileset has no signal or no background, since there is nothing to fit.
    """
    found = score_templates(histogram, datasets, minimum=minimum, searched=searched)
    if found is None:
        return None
    samples = []
    for name, contents in found.groups.items():
        # HistFactory adds up the errors and the expectation of all samples that carry one staterror: signals
        # that a measurement leaves out would dilute the background's.
        error = {
            "name": f"staterror_{region}",
            "type": "staterror",
            "data": np.sqrt(contents[1][found.nominal]).tolist(),
        }
        samples.append(
            _sample(name, contents[0], found, [error, *_systematics(contents[0], found)], floor=_FLOOR)
        )
    for name, contents in found.signals.items():
        strength = {"name": f"mu_{name}", "type": "normfactor", "data": None}
        samples.append(_sample(name, contents[0], found, [*_systematics(contents[0], found), strength]))
    expected = sum(values[found.nominal] for values, _ in found.groups.values())
    observed = expected if found.data is None or blinded else found.data
    return of_strengths(region, samples, np.asarray(observed), found, datasets)


def of_strengths(
    region: str,
    samples: list[dict[str, Any]],
    observed: NDArray[np.float64],
    templates: ScoreTemplates,
    datasets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """HistFactory JSON of one channel, with a measurement of each signal's strength, the others absent.

    Args:
        region: name of the channel.
        samples: those of signals have a `normfactor` "mu_<process>".
        observed: events in each bin, shape (n,).
        templates: that the samples were made from.
        datasets: metadata of each dataset, with `scale` where a part of it is missing.
    """
    strengths = [f"mu_{name}" for name in templates.signals]
    # The format has no place for a remark; whoever fits must name a measurement, or sees its name.
    whole = all(metadata.get("scale", 1.0) == 1.0 for metadata in datasets.values())
    remark = "" if whole else " (incomplete)"
    return {
        "version": "1.0.0",
        "channels": [{"name": region, "samples": samples}],
        "observations": [{"name": region, "data": observed.tolist()}],
        "measurements": [
            _measurement(name, strengths, remark, most=_REACH * templates.typical_strength(name))
            for name in templates.signals
        ],
    }


def _sample(
    name: str,
    values: NDArray[np.float64],
    templates: ScoreTemplates,
    modifiers: list[dict[str, Any]],
    *,
    floor: float = 0.0,
) -> dict[str, Any]:
    expected = np.maximum(values[templates.nominal], floor)
    return {"name": name, "data": expected.tolist(), "modifiers": modifiers}


def _systematics(values: NDArray[np.float64], templates: ScoreTemplates) -> list[dict[str, Any]]:
    """A `histosys` for each pair of variations."""
    variations = templates.variations
    return [
        {
            "name": "lumi" if up == "normUp" else up.removesuffix("Up"),
            "type": "histosys",
            "data": {
                "hi_data": values[number].tolist(),
                "lo_data": values[variations.index(f"{up.removesuffix('Up')}Down")].tolist(),
            },
        }
        for number, up in enumerate(variations)
        if up.endswith("Up")
    ]


def _measurement(signal: str, strengths: list[str], remark: str, *, most: float) -> dict[str, Any]:
    own = f"mu_{signal}"
    reach = most if np.isfinite(most) else 1.0
    parameters: list[dict[str, Any]] = [{"name": own, "inits": [0.0], "bounds": [[0.0, reach]]}]
    parameters += [{"name": other, "inits": [0.0], "fixed": True} for other in strengths if other != own]
    return {"name": f"{signal}{remark}", "config": {"poi": own, "parameters": parameters}}
