"""How well one score orders a signal above a background: area, efficiencies, significance improvement.

The significance improvement of a cut is ε_S/√ε_B, the factor by which s/√b grows; its maximum over the cuts is looked
for only where enough effective background events are left to say how much background passes, and where they outweigh a
typical event of the heaviest sample: one that was not simulated could otherwise double them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail, effective_events
from models.studies.scored import ScoredEvents

__all__ = ["GRID", "MEMBER", "Background", "Power", "entry_of", "heaviest_of", "seeds_of", "spread_of"]

GRID: NDArray[np.float64] = np.unique(
    np.concatenate([10.0 ** (np.arange(-80, 1) / 16), np.linspace(0.05, 0.95, 19)])
)
"""Background efficiencies of a drawn curve: sixteen a decade from 10^-5 on, and enough along the rest."""

MEMBER = re.compile(r"member\d+")
"""Name of the score of one network of an ensemble, which differ by their seed alone."""

_OUTSIDE = 1.0 - 0.6827  # probability beyond one standard deviation on one side of a one-sided interval

_PLACES = {key: int(np.argmin(np.abs(GRID - eps))) for key, eps in EFFICIENCIES.items()}


@dataclass(frozen=True)
class Power:
    """What one score reaches for one signal: measured, or in each replica.

    Attributes:
        auc: area under the ROC curve, a number or of shape (replicas,).
        eps_s: signal efficiencies at `GRID`, shape (g,) or (g, replicas).
    """

    auc: Any
    eps_s: NDArray[np.float64]

    def at(self, key: str) -> Any:
        """Signal efficiency at one of `efficiency.EFFICIENCIES`."""
        return self.eps_s[_PLACES[key]]

    def improvement(self, supported: NDArray[np.bool_]) -> Any:
        """Largest ε_S/√ε_B at those of `GRID` that are supported, shape (g,), of which there is one at least."""
        curve = self.eps_s[supported].T / np.sqrt(GRID[supported])
        return curve.max(axis=-1)


class Background:
    """Background of one score, ordered once for all signals.

    Args:
        score: shape (n,).
        weight: shape (n,), of positive sum.
        heaviest: weight of a typical event of the heaviest sample.
    """

    def __init__(
        self, score: NDArray[np.float64], weight: NDArray[np.float64], heaviest: float = 0.0
    ) -> None:
        self.tail = UpperTail.of(score, weight)
        order = np.argsort(score, kind="stable")
        self._ranked = score[order]
        self._sums = np.concatenate([[0.0], np.cumsum(weight[order])])
        self._cuts = np.array([self.tail.at(eps)[:2] for eps in GRID])
        self.n_eff = np.array([self.tail.effective_above(eps) for eps in GRID])
        self.effective = effective_events(weight)
        self._least = heaviest / self.tail.total

    @cached_property
    def supported(self) -> NDArray[np.bool_]:
        """Of `GRID`: from where on enough effective events are left to say what passes; shape (g,)."""
        few = np.flatnonzero((self.n_eff < MIN_EFFECTIVE) | (self._least > GRID))
        supported: NDArray[np.bool_] = np.arange(len(GRID)) > few.max(initial=-1)
        return supported

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Of `GRID`: from the share of the first event on; shape (g,)."""
        smallest = float(self.tail.sumw[self.tail.sumw > 0][0]) / self.tail.total
        return (smallest <= GRID) & (GRID < 1)

    def measure(self, score: NDArray[np.float64], weight: NDArray[np.float64]) -> Power | None:
        """Area and efficiencies of a signal, ties counting half; None where its weights have no positive sum."""
        order = np.argsort(-score, kind="stable")
        falling, sums = -score[order], np.concatenate([[0.0], np.cumsum(weight[order])])
        total = float(sums[-1])  # summed up in the same order, no efficiency exceeds one by rounding
        if not total > 0:
            return None
        below = (
            self._sums[np.searchsorted(self._ranked, score, side="left")]
            + self._sums[np.searchsorted(self._ranked, score, side="right")]
        ) / 2
        cuts, parts = self._cuts.T
        low = sums[np.searchsorted(falling, -cuts, side="left")]
        high = sums[np.searchsorted(falling, -cuts, side="right")]
        area = float(weight @ below) / total / float(self._sums[-1])
        return Power(area, (low + parts * (high - low)) / total)


def spread_of(values: NDArray[np.float64]) -> float:
    """Standard deviation over replicas; those without a value do not count, and rounding is none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    spread = float(known.std())
    return spread if spread > 1e-12 * float(np.abs(known).max()) else 0.0


def heaviest_of(background: ScoredEvents) -> float:
    """Weight of a typical event, Σw²/Σw, of the dataset in which it is largest."""
    index, weight, n = background.strata.index, background.weight, len(background.rows)
    sumw, sumw2 = (np.bincount(index, weights=values, minlength=n) for values in (weight, weight**2))
    return float((sumw2[sumw > 0] / sumw[sumw > 0]).max(initial=0.0))


def entry_of(
    power: Power | None, spread: Power | None, background: Background, n_eff: float
) -> dict[str, Any]:
    """One score's entry of evaluate.json for one signal.

    Args:
        power: measured; None where there is nothing to measure.
        spread: the same in each replica, for the errors.
        background: that it was measured against.
        n_eff: effective number of signal events.

    Returns:
        `auc`, `auc_error`, `eps_s` by background efficiency, `significance_improvement` and `roc`. What fewer than ten
        effective events of signal or background support is null, marked "unsupported" with the reason.
    """
    why = "no signal events" if power is None or spread is None else ""
    for kind, number in (("signal", n_eff), ("background", background.effective)):
        if not why and number < MIN_EFFECTIVE:
            why = _few(kind, number)
    behind = {key: float(background.n_eff[place]) for key, place in _PLACES.items()}
    if why or power is None or spread is None:
        nothing = {"value": None, "error": None, "unsupported": True, "reason": why}
        return {
            "auc": None,
            "auc_error": None,
            "unsupported": True,
            "reason": why,
            "eps_s": {key: nothing | {"n_eff_background": number} for key, number in behind.items()},
            "significance_improvement": nothing | {"eps_b": None, "n_eff_background": None},
            "roc": {"eps_b": [], "eps_s": [], "error": []},
        }
    shown = background.shown
    least = _least_error(n_eff)
    errors = np.array([spread_of(row) for row in spread.eps_s])
    return {
        "auc": float(power.auc),
        "auc_error": spread_of(spread.auc),
        "eps_s": {
            key: _efficiency(float(power.at(key)), float(errors[place]) or least, behind[key])
            for key, place in _PLACES.items()
        },
        "significance_improvement": _improvement(power, spread, background),
        "roc": {
            "eps_b": _short([0.0, *GRID[shown], 1.0]),
            "eps_s": _short([0.0, *power.eps_s[shown], 1.0]),
            "error": _short([0.0, *errors[shown], 0.0]),
        },
    }


def _least_error(n_eff: float) -> float:
    """Error of an efficiency of 0 or 1, where no replica differs: to the one-sided Clopper-Pearson bound of 68.3 %."""
    return float(1.0 - _OUTSIDE ** (1.0 / n_eff))


def _few(kind: str, number: float) -> str:
    return f"{number:.2g} effective {kind} events where {MIN_EFFECTIVE:g} are needed"


def _efficiency(value: float, error: float, n_eff: float) -> dict[str, Any]:
    if n_eff < MIN_EFFECTIVE:
        reason = _few("background", n_eff)
        return {
            "value": None, "error": None, "n_eff_background": n_eff, "unsupported": True, "reason": reason,
        }  # fmt: skip
    return {"value": value, "error": error, "n_eff_background": n_eff}


def _improvement(power: Power, spread: Power, background: Background) -> dict[str, Any]:
    """Largest significance improvement, its error, and the cut that it is reached with; the least that was tried."""
    places = np.flatnonzero(background.supported)
    if not len(places):
        reason = "one event of the heaviest background outweighs all that could pass"
        nothing = dict.fromkeys(("value", "error", "eps_b", "n_eff_background"))
        return nothing | {"unsupported": True, "reason": reason}
    best = places[int(np.argmax(power.eps_s[places] / np.sqrt(GRID[places])))]
    return {
        "value": float(power.improvement(background.supported)),
        "error": spread_of(spread.improvement(background.supported)),
        "eps_b": float(GRID[best]),
        "n_eff_background": float(background.n_eff[best]),
        "least_n_eff": MIN_EFFECTIVE,
        "least_eps_b": float(GRID[places[0]]),
    }


def seeds_of(
    members: Sequence[Power | None], backgrounds: Sequence[Background], main: Background
) -> dict[str, Any] | None:
    """How the measures vary over networks that differ by their seed alone: the value of each, and the curves' range.

    Args:
        members: measured with the score of each network.
        backgrounds: the same background, ordered by the score of each network.
        main: ordered by the score of all of them together, whose `roc` the range stands beside.
    """
    known = [power for power in members if power is not None]
    if len(known) < 2 or len(known) < len(members):
        return None
    eps_s = {
        key: [
            float(power.at(key)) if background.n_eff[place] >= MIN_EFFECTIVE else None
            for power, background in zip(known, backgrounds, strict=True)
        ]
        for key, place in _PLACES.items()
    }
    improvement = [
        float(power.improvement(background.supported)) if background.supported.any() else None
        for power, background in zip(known, backgrounds, strict=True)
    ]
    curves = np.array([power.eps_s[main.shown] for power in known])
    return {
        "n": len(known),
        "auc": _range([float(power.auc) for power in known]),
        "eps_s": {key: _range(values) for key, values in eps_s.items()},
        "significance_improvement": _range(improvement),
        "roc": {
            "low": _short([0.0, *curves.min(axis=0), 1.0]),
            "high": _short([0.0, *curves.max(axis=0), 1.0]),
        },
    }


def _range(values: Sequence[float | None]) -> dict[str, Any]:
    """Least and largest of some values, and all of them; null where one is not supported."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"min": None, "max": None, "values": list(values), "unsupported": True}
    return {"min": min(known), "max": max(known), "values": known}


def _short(values: Sequence[float]) -> list[float]:
    """Points of a curve, with the digits that a drawing can show."""
    return [float(f"{value:.6g}") for value in values]
