"""The score histogram as a HistFactory workspace, for pyhf and cabinetry.

One channel a region, one sample a process group and a signal. The background's statistical error is a `staterror`
(Barlow and Beeston, as HistFactory has it), every variation of the weight a `histosys`, every signal has a strength of
its own, and each measurement fits one signal with the others absent.
Format: HistFactory JSON, https://scikit-hep.org/pyhf/likelihood.html.
"""

from collections.abc import Mapping
from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

from processors.histograms import held_out, rebinned
from processors.weights import NOMINAL

__all__ = ["bins_with_support", "histfactory_workspace"]

# Fits need a positive expectation in every bin.
_FLOOR = 1e-6


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
    kinds = {name: str(metadata["kind"]) for name, metadata in datasets.items()}
    compared = rebinned(held_out(histogram, kinds, searched=searched), kinds)
    compared = compared.project("dataset", "variation", "score")
    names = list(compared.axes[0])
    variations = list(compared.axes[1])
    contents = compared.view(flow=True)[:, : len(variations)]
    values, variances = contents["value"], contents["variance"]
    members: dict[str, dict[str, list[int]]] = {"background": {}, "signal": {}, "data": {}}
    for position, name in enumerate(names):
        key = "process" if kinds[name] == "signal" else "group"
        members[kinds[name]].setdefault(str(datasets[name][key]), []).append(position)
    if not members["signal"] or not members["background"]:
        return None
    all_background = [position for group in members["background"].values() for position in group]
    nominal = variations.index(NOMINAL)
    starts = bins_with_support(
        values[all_background, nominal].sum(0), variances[all_background, nominal].sum(0), minimum=minimum
    )

    def binned(array: NDArray[Any], positions: list[int], variation: int) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(array[positions, variation].sum(axis=0), starts))

    samples = []
    for kind in ("background", "signal"):
        for name, positions in members[kind].items():
            expected = binned(values, positions, nominal)
            modifiers: list[dict[str, Any]] = []
            if kind == "background":
                # HistFactory adds up the errors and the expectation of all samples that carry one staterror: signals
                # that a measurement leaves out would dilute the background's.
                error = np.sqrt(binned(variances, positions, nominal))
                modifiers.append({"name": f"staterror_{region}", "type": "staterror", "data": error.tolist()})
            for up in (v for v in variations if v.endswith("Up")):
                down = f"{up.removesuffix('Up')}Down"
                modifiers.append(
                    {
                        "name": "lumi" if up == "normUp" else up.removesuffix("Up"),
                        "type": "histosys",
                        "data": {
                            "hi_data": binned(values, positions, variations.index(up)).tolist(),
                            "lo_data": binned(values, positions, variations.index(down)).tolist(),
                        },
                    }
                )
            if kind == "signal":
                modifiers.append({"name": f"mu_{name}", "type": "normfactor", "data": None})
            samples.append(
                {"name": name, "data": np.maximum(expected, _FLOOR).tolist(), "modifiers": modifiers}
            )
    in_data = [position for group in members["data"].values() for position in group]
    observed = binned(values, in_data if in_data and not blinded else all_background, nominal)
    strengths = [f"mu_{name}" for name in members["signal"]]
    # The format has no place for a remark; whoever fits must name a measurement, or sees its name.
    whole = all(metadata.get("scale", 1.0) == 1.0 for metadata in datasets.values())
    remark = "" if whole else " (incomplete)"
    return {
        "version": "1.0.0",
        "channels": [{"name": region, "samples": samples}],
        "observations": [{"name": region, "data": observed.tolist()}],
        "measurements": [_measurement(name, strengths, remark) for name in members["signal"]],
    }


def _measurement(signal: str, strengths: list[str], remark: str) -> dict[str, Any]:
    own = f"mu_{signal}"
    parameters: list[dict[str, Any]] = [{"name": own, "inits": [0.0], "bounds": [[0.0, 100.0]]}]
    parameters += [{"name": other, "inits": [0.0], "fixed": True} for other in strengths if other != own]
    return {"name": f"{signal}{remark}", "config": {"poi": own, "parameters": parameters}}
