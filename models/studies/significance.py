"""Expected significance of a cut on the score, at the full luminosity and with the background's uncertainty.

The cut is chosen on background alone, at stated efficiencies. Background above it is that of the test split, each
dataset scaled to all its events (`models.studies.scored`): its statistical error is that of the few events behind it,
and a relative systematic uncertainty stands beside it. Collision data take no part.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fileset.exceptions import InputError
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail
from models.settings import SignificanceSettings
from models.studies.limits import expected_limits
from models.studies.power import heaviest_of
from models.studies.scored import ScoredEvents, read_scored
from processors.histograms import left_for_search, load_histograms
from processors.shards import read_manifest

__all__ = ["Cuts", "asimov_significance", "significance"]

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float64]

# Ten cuts a decade of background efficiency.
_SCANNED = np.geomspace(1.0, 1e-5, 51)

# Signals so much smaller than the background that the formula would be a difference of equal numbers.
_SMALL = 1e-6


def asimov_significance(s: ArrayLike, b: ArrayLike, sigma: ArrayLike = 0.0) -> Floats:
    r"""Median significance with which a counting experiment discovers a signal, background known to within an error.

    .. math:: Z_A = \sqrt{2 \left[ (s+b) \ln\frac{(s+b)(b+\sigma^2)}{b^2+(s+b)\sigma^2}
              - \frac{b^2}{\sigma^2} \ln\left(1+\frac{\sigma^2 s}{b(b+\sigma^2)}\right) \right]}

    G. Cowan, "Discovery sensitivity for a counting experiment with background uncertainty" (2012), eq. 20; for σ = 0
    it is eq. 97 of Cowan, Cranmer, Gross and Vitells, EPJ C 71 (2011) 1554 (arXiv:1007.1727).

    Args:
        s: expected signal events.
        b: expected background events.
        sigma: standard error of b.

    Returns:
        Z in standard deviations; nan where s or b is not positive.
    """
    s, b, sigma = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (s, b, sigma)))
    usable = (s > 0) & (b > 0)
    s, b, variance = np.where(usable, s, 1.0), np.where(usable, b, 1.0), sigma**2
    first = (s + b) * np.log1p(s * b / (b**2 + (s + b) * variance))
    known = variance <= 1e-12 * b**2
    divisor = np.where(known, 1.0, variance)
    second = np.where(known, s, b**2 / divisor * np.log1p(divisor * s / (b * (b + divisor))))
    exact = np.sqrt(np.maximum(2 * (first - second), 0.0))
    z = np.where(s < _SMALL * b, s / np.sqrt(b + variance), exact)
    return np.where(usable, z, np.nan)


@dataclass(frozen=True)
class Cuts:
    """Cuts on one score, the tightest last: background efficiency, score, and part that passes of events at it."""

    efficiency: Floats
    score: Floats
    part: Floats

    @classmethod
    def of(cls, background: UpperTail, efficiencies: ArrayLike) -> "Cuts":
        """The cuts with these efficiencies of a background."""
        wanted = np.asarray(efficiencies, dtype=np.float64)
        found = np.array([background.at(float(efficiency))[:2] for efficiency in wanted])
        return cls(wanted, found[:, 0], found[:, 1])

    def sums(self, score: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Σw and Σw² of the events that pass each cut; each of shape (cuts,).

        Args:
            score: of events, shape (n,).
            weight: shape (n,).
        """
        order = np.argsort(self.score, kind="stable")
        rising = self.score[order]
        found = np.zeros((2, len(rising)))
        for side, share in (("left", 1 - self.part[order]), ("right", self.part[order])):
            # How many of the cuts, in rising order, an event exceeds ("left") or reaches ("right").
            exceeded = np.searchsorted(rising, score, side=side)  # type: ignore[call-overload]
            for power in (1, 2):
                by_number = np.bincount(exceeded, weights=weight**power, minlength=len(rising) + 1)
                found[power - 1] += share * np.cumsum(by_number[::-1])[::-1][1:]
        sums = np.empty_like(found)
        sums[:, order] = found
        return sums[0], sums[1]


def _signal_above(events: Sequence[ScoredEvents], name: str, cuts: Cuts) -> tuple[Floats, Floats]:
    """Expected events above each cut and their standard error, √Σw²."""
    sums = [cuts.sums(part.columns[name], part.weight) for part in events]
    sumw, sumw2 = np.sum(sums, axis=0)
    return sumw, np.sqrt(sumw2)


def _background_above(events: Sequence[ScoredEvents], name: str, cuts: Cuts) -> tuple[Floats, Floats, Floats]:
    """Expected events above each cut, their standard error, and the effective number of held-out events behind them.

    Held-out events say which part of a dataset passes, with the error of a ratio; all its events say how many there
    are: the variance is Σw²(v - ε)² + ε²Σw²_all, v = 1 for events that pass (as in `models.efficiency.Strata`).

    Args:
        events: one dataset each.
        name: of the score.
        cuts: on it.
    """
    sumw, sumw2, variance = (np.zeros(len(cuts.score)) for _ in range(3))
    for part in events:
        passing, passing2 = cuts.sums(part.columns[name], part.weight)
        total = float(part.weight.sum())
        own = passing / total if total > 0 else np.zeros_like(passing)
        failing2 = float(np.sum(part.weight**2)) - passing2
        variance += passing2 * (1 - own) ** 2 + failing2 * own**2 + own**2 * part.sumw2[0]
        sumw, sumw2 = sumw + passing, sumw2 + passing2
    n_eff = np.divide(sumw**2, sumw2, out=np.zeros_like(sumw), where=sumw2 > 0)
    return sumw, np.sqrt(variance), n_eff


@dataclass(frozen=True)
class _Counts:
    """What is expected above some cuts; all of shape (cuts,)."""

    b: Floats
    b_error: Floats
    n_eff: Floats
    systematic: float
    heaviest: float = 0.0

    @property
    def supported(self) -> NDArray[np.bool_]:
        """Cuts above which the simulation says something: one more event of the heaviest sample would not double it."""
        return (self.n_eff >= MIN_EFFECTIVE) & (self.b > 0) & (self.b >= self.heaviest)

    def z(self, s: Floats, s_error: Floats) -> tuple[Floats, Floats]:
        """Significance with both uncertainties of the background, and its error from the statistics of both samples.

        The error is propagated: s and b one standard error up and down, one at a time.
        """

        def at(s: Floats, b: Floats) -> Floats:
            b = np.maximum(b, 0.0)
            return asimov_significance(s, b, np.hypot(self.b_error, self.systematic * b))

        by_background = (at(s, self.b - self.b_error) - at(s, self.b + self.b_error)) / 2
        # Significance is concave in s, and nothing below s = 0.
        by_signal = (at(s + s_error, self.b) - np.nan_to_num(at(s - s_error, self.b))) / 2
        return at(s, self.b), np.hypot(by_background, by_signal)

    def measures(self, s: Floats, s_error: Floats) -> dict[str, Floats]:
        """All figures of a signal, nan where they are not supported."""
        z, z_error = self.z(s, s_error)
        found = {
            "z": z,
            "z_error": z_error,
            "z_statistical": asimov_significance(s, self.b, self.b_error),
            "z_without": asimov_significance(s, self.b),
            "s_over_sqrt_b": s / np.sqrt(np.where(self.b > 0, self.b, np.nan)),
        }
        bad = ~self.supported | ~(s > 0)
        return {name: np.where(bad, np.nan, values) for name, values in found.items()}


def significance(
    scores: Path, *, settings: SignificanceSettings | None = None, card: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Expected significances and limits of every signal with one model, in one region.

    Args:
        scores: `manifest.json` of scores/<region>/<model>, with the histogram of the scores beside it.
        settings: uncertainties that are assumed.
        card: of the model; of one that was trained on data, the luminosity is what is left for the search.

    Returns:
        The region's entry of significance.json. `cuts`: by stated background efficiency the `score`, `b`, its
        statistical error `b_error`, `b_uncertainty` with the systematic one, `n_eff`, and whether it is
        `supported`; `tightest` names the last supported one. `scan`: the same of finely spaced cuts, as lists.
        `signals`, by process: what is expected (`sumw`, `sumw_error`, `n`); by cut `s`, `s_error`, the significances
        `z` ± `z_error` (both uncertainties), `z_statistical` (the statistical one), `z_without` (neither) and
        `s_over_sqrt_b`, null and "unsupported" where they are not, and the best single `variable` cut at the
        same efficiency, chosen with knowledge of the signal; `scan` of them; `best`, the scanned cut of largest
        `z`, chosen with the same knowledge; `limit` as from `models.studies.limits`. `limits`: the bins of the fit.

    Raises:
        InputError: the manifest or the histogram is missing or foreign, or holds no background.
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    settings, card = settings or SignificanceSettings(), card or {}
    manifest = read_manifest(scores, stage="score")
    searched = left_for_search(card)
    names = ["score", *manifest["variables"]]
    events = {
        dataset: _of_luminosity(
            read_scored(Path(scores), manifest, dataset, names, everything=searched < 1), searched
        )
        for dataset, facts in sorted(manifest["datasets"].items())
        if facts["kind"] != "data"
    }
    kinds = {dataset: manifest["datasets"][dataset]["kind"] for dataset in events}
    background = [part for dataset, part in events.items() if kinds[dataset] == "background"]
    whole = ScoredEvents.join(background)
    if not len(whole.weight) or not whole.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background of the test split: no significance can be expected"
        raise InputError(msg)
    stated = {
        name: _counted(background, whole, name, list(EFFICIENCIES.values()), settings) for name in names
    }
    scanned = _counted(background, whole, "score", _SCANNED, settings)
    by_process: dict[str, list[str]] = {}
    for dataset in (name for name, kind in kinds.items() if kind == "signal"):
        by_process.setdefault(str(manifest["datasets"][dataset]["process"]), []).append(dataset)
    signals = {
        process: _facts(manifest["datasets"][members[0]], members)
        | _signal([events[name] for name in members], stated, scanned)
        for process, members in by_process.items()
    }
    limits = expected_limits(
        _histogram(Path(scores), manifest), manifest["datasets"], settings=settings, searched=searched
    )
    limit_of = limits.pop("signals")
    for process, entry in signals.items():
        entry["limit"] = limit_of.get(
            process, {"status": "no signal", "reason": "no event of it is selected"}
        )
    supported = [key for key, entry in _cuts(*stated["score"]).items() if entry["supported"]]
    return {
        "complete": manifest.get("complete", True),
        "model": manifest["model"],
        "lumi_pb": None if manifest.get("lumi_pb") is None else manifest["lumi_pb"] * searched,
        "systematic": settings.systematic,
        "min_effective": MIN_EFFECTIVE,
        "background": whole.summary(),
        "cuts": _cuts(*stated["score"]),
        "tightest": supported[-1] if supported else None,
        "scan": _scan(*scanned),
        "signals": signals,
        "limits": limits,
    }


def _histogram(scores: Path, manifest: Mapping[str, Any]) -> Any:
    path, name = scores.with_name("histograms.json"), f"{manifest['region']}/score/{manifest['model']}"
    found = load_histograms(path) if path.is_file() else {}
    if name not in found:
        msg = f"{path} holds no histogram {name}: run the stage score again"
        raise InputError(msg)
    return found[name]


def _of_luminosity(events: ScoredEvents, part: float) -> ScoredEvents:
    """The events at a part of the luminosity."""
    return ScoredEvents(
        events.weight * part, events.columns, events.rows, [sumw2 * part**2 for sumw2 in events.sumw2]
    )


def _counted(
    background: Sequence[ScoredEvents],
    whole: ScoredEvents,
    name: str,
    efficiencies: ArrayLike,
    settings: SignificanceSettings,
) -> tuple[Cuts, _Counts]:
    """Cuts on one score and the background above them."""
    cuts = Cuts.of(UpperTail.of(whole.columns[name], whole.weight), efficiencies)
    return cuts, _Counts(*_background_above(background, name, cuts), settings.systematic, heaviest_of(whole))


def _cuts(cuts: Cuts, counts: _Counts) -> dict[str, Any]:
    uncertainty = np.hypot(counts.b_error, counts.systematic * counts.b)
    return {
        key: {
            "eps_b": float(cuts.efficiency[i]),
            "score": float(cuts.score[i]),
            "b": float(counts.b[i]),
            "b_error": float(counts.b_error[i]),
            "b_uncertainty": float(uncertainty[i]),
            "n_eff": float(counts.n_eff[i]),
            "supported": bool(counts.supported[i]),
        }
        for i, key in enumerate(EFFICIENCIES)
    }


def _scan(cuts: Cuts, counts: _Counts) -> dict[str, list[float]]:
    return {
        "eps_b": cuts.efficiency.tolist(),
        "score": cuts.score.tolist(),
        "b": counts.b.tolist(),
        "b_error": counts.b_error.tolist(),
        "n_eff": counts.n_eff.tolist(),
    }


def _facts(dataset: Mapping[str, Any], members: list[str]) -> dict[str, Any]:
    return {
        "family": dataset["group"],
        "label": dataset["label"],
        "process": dataset["process"],
        "model": dataset.get("model", {}),
        "datasets": members,
    }


def _signal(
    events: Sequence[ScoredEvents],
    stated: Mapping[str, tuple[Cuts, _Counts]],
    scanned: tuple[Cuts, _Counts],
) -> dict[str, Any]:
    """Everything about one signal but its limit."""
    weight = np.concatenate([part.weight for part in events])
    found = {
        name: counts.measures(*_signal_above(events, name, cuts)) for name, (cuts, counts) in stated.items()
    }
    s, s_error = _signal_above(events, "score", stated["score"][0])
    cuts = {}
    for i, key in enumerate(EFFICIENCIES):
        entry = {name: _plain(values[i]) for name, values in found["score"].items()}
        rivals = {
            name: float(measures["z"][i])
            for name, measures in found.items()
            if name != "score" and np.isfinite(measures["z"][i])
        }
        best = max(rivals, key=lambda name: rivals[name], default=None)
        cuts[key] = {
            "s": float(s[i]),
            "s_error": float(s_error[i]),
            **entry,
            "unsupported": entry["z"] is None,
            "variable": best
            and {"name": best, "z": rivals[best], "z_error": _plain(found[best]["z_error"][i])},
        }
    scan_s, scan_error = _signal_above(events, "score", scanned[0])
    scan = scanned[1].measures(scan_s, scan_error)
    largest = int(np.nanargmax(scan["z"])) if np.isfinite(scan["z"]).any() else None
    return {
        "n": len(weight),
        "sumw": float(weight.sum()),
        "sumw_error": float(np.sqrt(np.sum(weight**2))),
        "cuts": cuts,
        "scan": {"s": scan_s.tolist()} | {name: [_plain(v) for v in values] for name, values in scan.items()},
        "best": None
        if largest is None
        else {
            "eps_b": float(scanned[0].efficiency[largest]),
            "score": float(scanned[0].score[largest]),
            "s": float(scan_s[largest]),
            "b": float(scanned[1].b[largest]),
            "n_eff": float(scanned[1].n_eff[largest]),
            "z": _plain(scan["z"][largest]),
            "z_error": _plain(scan["z_error"][largest]),
        },
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
