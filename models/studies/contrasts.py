"""What distinguishes two sets of scores that are not independent: of events and the same events changed, of two models.

The errors are those of DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: an event moves the area by where it
stands among the others, and an event that enters twice moves it by the sum, or difference, of both places.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.efficiency import (
    EFFICIENCIES,
    MIN_EFFECTIVE,
    Strata,
    UpperTail,
    auc,
    effective_events,
    placements,
    share_error,
)

__all__ = ["Scored", "changed", "difference", "power"]

_ALARM = "1e-2"  # background efficiency of the cut above which changed events are counted


class Scored(NamedTuple):
    """Scores of n events."""

    score: NDArray[np.floating[Any]]  # (n,)
    weight: NDArray[np.float64]  # (n,)
    strata: Strata | None = None

    @property
    def usable(self) -> bool:
        """Whether the events can support any statement."""
        return float(self.weight.sum()) > 0 and effective_events(self.weight) >= MIN_EFFECTIVE


def changed(before: Scored, after: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """How far a change of events moves their score.

    Args:
        before: the events as they are.
        after: scores of the same events, changed, shape (n,).

    Returns:
        `auc` of changed against unchanged events (0.5: nothing is noticed), `shift`, the mean difference of an event's
        scores, and `alarms`, the share of changed events above the cut that one in a hundred unchanged ones passes;
        each with its error, and null and marked "unsupported" where fewer than ten effective events stand behind it.
    """
    weight, strata = before.weight, before.strata
    names = ("auc", "auc_error", "shift", "shift_error")
    if not before.usable:
        return dict.fromkeys(names) | {"alarms": _nothing(0.0), "unsupported": True}
    below, above = placements(before.score, weight, after, weight)
    moved = np.asarray(after, dtype=np.float64) - before.score
    values = (
        float(weight @ below / weight.sum()),
        share_error(np.round(below + above, 12), weight, strata),  # 1 for all where nothing has changed
        float(weight @ moved / weight.sum()),
        share_error(moved, weight, strata),
    )
    alarms = _signal_efficiency(before, Scored(after, weight, strata), _ALARM)
    return dict(zip(names, values, strict=True)) | {"alarms": alarms}


def power(background: Scored, signal: Scored) -> dict[str, Any]:
    """Area and signal efficiencies with their errors; null and marked "unsupported" where statistics end."""
    if not (background.usable and signal.usable):
        nothing = {
            key: _nothing(effective_events(background.weight) * eps) for key, eps in EFFICIENCIES.items()
        }
        return {"auc": None, "auc_error": None, "unsupported": True, "eps_s": nothing}
    area, error = auc(background.score, background.weight, signal.score, signal.weight, background.strata)
    eps_s = {key: _signal_efficiency(background, signal, key) for key in EFFICIENCIES}
    return {"auc": area, "auc_error": error, "eps_s": eps_s}


def difference(ours: tuple[Scored, Scored], theirs: tuple[Scored, Scored]) -> dict[str, float | None]:
    """Area of one model less that of another on the same background and signal events, and its error.

    Args:
        ours: background and signal with the scores of one model.
        theirs: the same events with those of the other.
    """
    (background, signal), (other_background, other_signal) = ours, theirs
    if not (background.usable and signal.usable):
        return {"difference": None, "difference_error": None}
    below, above = placements(background.score, background.weight, signal.score, signal.weight)
    other_below, other_above = placements(
        other_background.score, background.weight, other_signal.score, signal.weight
    )
    error = np.hypot(
        share_error(below - other_below, signal.weight),
        share_error(above - other_above, background.weight, background.strata),
    )
    value = signal.weight @ (below - other_below) / signal.weight.sum()
    return {"difference": float(value), "difference_error": float(error)}


def _nothing(n_eff: float) -> dict[str, Any]:
    return {"value": None, "error": None, "n_eff_background": n_eff, "unsupported": True}


def _signal_efficiency(background: Scored, signal: Scored, key: str) -> dict[str, Any]:
    """Share of the signal above the cut of a background efficiency; the error holds that of the cut."""
    eps_b = EFFICIENCIES[key]
    tail = UpperTail.of(background.score, background.weight)
    n_eff = tail.effective_above(eps_b)
    if n_eff < MIN_EFFECTIVE:
        return _nothing(n_eff)
    cut, part, _ = tail.at(eps_b)
    passing = np.where(background.score > cut, 1.0, np.where(background.score == cut, part, 0.0))
    cut_error = share_error(passing, background.weight, background.strata)
    above = UpperTail.of(signal.score, signal.weight)
    value, passing2 = above.efficiency(cut, part)
    low, high = (
        above.efficiency(*tail.at(eps)[:2])[0]
        for eps in (max(eps_b - cut_error, 0), min(eps_b + cut_error, 1))
    )
    error = float(np.hypot(above.efficiency_error(value, passing2), (high - low) / 2))
    return {"value": value, "error": error, "n_eff_background": n_eff}
