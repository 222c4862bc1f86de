"""What a search for better settings found: the leaderboard, and all trials in one picture."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.pictures import Drawing
from report.style import ALERT, INK, MUTED, Sample, new_figure, stamp, styled
from report.tables import Cell, Table
from report.terminal import show_table

__all__ = [
    "LEADERBOARD_HEADER",
    "leaderboard_rows",
    "leaderboard_table",
    "parallel_coordinates",
    "search_drawing",
    "search_table",
]

LEADERBOARD_HEADER = (
    "trial", "error", "relative", "epochs", "weights", "network", "L1", "L2", "rate", "",
)  # fmt: skip

_BEST = "#D55E00"
_ABSENT = -0.09  # where the line of a trial passes that has no such layer; the axis goes from 0 to 1
_ROW = 0.33  # height of an axis [inches]


def leaderboard_rows(result: Mapping[str, Any], limit: int = 10) -> list[tuple[str, ...]]:
    """The best trials, one a row, as `LEADERBOARD_HEADER` names the columns.

    "relative" is the error over that of predicting each input's mean.

    Args:
        result: content of ``search.json``.
        limit: rows at most.
    """
    return [_row(entry) for entry in result["trials"][:limit]]


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry["criterion"] is None:
        return (entry["trial"], "", "", str(entry["epochs"]), "", entry["cause"], "", "", "", "failed")
    settings = entry["settings"]
    return (
        entry["trial"],
        f"{entry['criterion']:.4g}",
        f"{entry['relative_error']:.3f}",
        str(entry["epochs"]),
        f"{entry['parameters']:,}",
        "-".join(map(str, [*settings["encoder"], *settings["decoder"]])),
        f"{settings['kernel_l1']:g}",
        f"{settings['activity_l2']:g}",
        f"{settings['learning_rate']:g}",
        "collapsed" if entry["collapsed"] else "",
    )


def leaderboard_table(result: Mapping[str, Any], limit: int = 10) -> None:
    """The best trials on the terminal.

    Args:
        result: content of ``search.json``.
        limit: rows at most.
    """
    show_table(_title(result), LEADERBOARD_HEADER, leaderboard_rows(result, limit))


def _title(result: Mapping[str, Any]) -> str:
    trials = result["trials"]
    failed = sum(entry["criterion"] is None for entry in trials)
    return (
        f"Region {result['region']}: search {result['name']}, {len(trials)} trials"
        + (f", {failed} of them failed" if failed else "")
        + f", by {result['criterion']}"
    )


def search_table(result: Mapping[str, Any], limit: int = 10) -> Table:
    """The best trials as a table of the page; arguments as of `leaderboard_table`."""
    rows = [[Cell(escape(text), text) for text in row] for row in leaderboard_rows(result, limit)]
    return Table(
        f"{result['region']}_search_{result['name']}",
        escape(_title(result)),
        [escape(name) for name in LEADERBOARD_HEADER],
        rows,
    )


def search_drawing(result: Mapping[str, Any], *, sample: Sample) -> Drawing:
    """The picture of all trials, called ``<region>_search_<name>``.

    Args:
        result: content of ``search.json``.
        sample: what the trials were trained on.
    """
    kept = ("trial", "criterion", "epochs", "collapsed", "values")
    trials = [{key: entry[key] for key in kept if key in entry} for entry in result["trials"]]
    best = result["trials"][0]
    return Drawing(
        name=f"{result['region']}_search_{result['name']}",
        title=f"Search {result['name']}, region {result['region']}: {len(trials)} trials",
        alt=f"Parallel coordinates of {len(trials)} trials, one line each, from their hyperparameters to the "
        f"{result['criterion']}. The best, trial {best['trial']}, reaches {best['criterion']:.4g}.",
        draw=partial(parallel_coordinates, result, sample=sample),
        data={
            "criterion": result["criterion"],
            "hyperparameters": list(result["hyperparameters"]),
            "trials": trials,
        },
    )


@styled
def parallel_coordinates(result: Mapping[str, Any], *, sample: Sample) -> Figure:
    """Draw each trial as a line that crosses one horizontal axis for each hyperparameter, and ends at its error.

    The axes lie below each other, so that twenty of them can be read. Darker lines are better trials.

    Args:
        result: content of ``search.json``.
        sample: what the trials were trained on.
    """
    trials = [entry for entry in result["trials"] if entry["criterion"] is not None]
    scales = [_Scale(parameter, trials) for parameter in result["hyperparameters"]]
    scales = [scale for scale in scales if scale.seen]
    scales.append(_error_scale(str(result["criterion"]), [entry["criterion"] for entry in trials]))
    height = _ROW * len(scales)
    figure = new_figure(6.4, height + 1.15)
    ax = figure.add_axes((0.255, 0.42 / (height + 1.15), 0.70, height / (height + 1.15)))
    ax.set(xlim=(-0.13, 1.04), ylim=(len(scales) - 0.5, -0.5))
    ax.set_axis_off()
    for row, scale in enumerate(scales):
        _draw_axis(ax, row, scale)
    colors = mpl.colormaps["cividis"](np.linspace(0.0, 0.92, len(trials)))
    rows = np.arange(len(scales))
    for rank, entry in reversed(list(enumerate(trials))):
        # Lines through the same choice are spread a little: by trial, so that one can be followed.
        spread = 0.022 * (rank / max(1, len(trials) - 1) - 0.5)
        places = np.array([scale.place(entry, spread) for scale in scales])
        best = rank == 0
        ax.plot(
            places,
            rows,
            color=_BEST if best else colors[rank],
            linewidth=2.6 if best else 1.0,
            linestyle=(0, (4, 1.6)) if entry["collapsed"] else "-",
            alpha=1.0 if best else 0.75,
            marker="o",
            markersize=3.4 if best else 1.8,
            zorder=5 if best else 3,
        )
    _legend(figure, trials, result)
    stamp(ax, sample, subtitle=f"search {result['name']}")
    return figure


class _Scale:
    """An axis: where a hyperparameter's values lie between 0 and 1."""

    def __init__(self, parameter: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> None:
        self.name = str(parameter["name"])
        self.label = self.name.replace("_", " ")
        found = [entry["values"][self.name] for entry in trials if self.name in entry["values"]]
        self.seen = bool(found)
        self.absent = len(found) < len(trials)
        self.choices = list(parameter.get("values", ()))
        if self.choices and not isinstance(self.choices[0], str):
            self.choices.sort()
        low, high = float(parameter.get("min", 0)), float(parameter.get("max", 1))
        self.log = bool(parameter.get("log", False))
        self.limits = (low, high) if high > low else (low, low + 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        if self.choices:
            return [(self.at(value), _text(value)) for value in self.choices]
        low, high = self.limits
        middle = np.sqrt(low * high) if self.log else (low + high) / 2
        if float(low).is_integer() and float(high).is_integer():
            middle = round(middle)
        return [(self.at(value), _text(value)) for value in sorted({low, middle, high})]

    def at(self, value: Any) -> float:
        """Where a value lies."""
        if self.choices:
            return self.choices.index(value) / max(1, len(self.choices) - 1)
        low, high = self.limits
        if self.log:
            return float(np.log(value / low) / np.log(high / low))
        return float((value - low) / (high - low))

    def value_of(self, entry: Mapping[str, Any]) -> Any:
        """The trial's value; None where it has no such hyperparameter."""
        return entry["values"].get(self.name)

    def place(self, entry: Mapping[str, Any], spread: float) -> float:
        """Where a trial crosses the axis; choices are spread, numbers are not."""
        value = self.value_of(entry)
        if value is None:
            return _ABSENT + spread
        return self.at(value) + (spread if self.choices else 0.0)


class _ErrorScale(_Scale):
    """The last axis: what was minimised."""

    def value_of(self, entry: Mapping[str, Any]) -> Any:
        """The trial's error."""
        return entry["criterion"]


def _error_scale(label: str, errors: Sequence[float]) -> _Scale:
    low, high = min(errors), max(errors)
    margin = 0.03 * (high - low) or 0.01 * abs(low) or 1.0
    log = low > 0 and high / low > 5
    scale = _ErrorScale(
        {"name": label, "min": low if log else low - margin, "max": high + margin, "log": log}, ()
    )
    scale.label = label
    return scale


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def _draw_axis(ax: Axes, row: int, scale: _Scale) -> None:
    error = isinstance(scale, _ErrorScale)
    ax.plot((0, 1), (row, row), color=INK if error else MUTED, linewidth=1.4 if error else 0.7, zorder=1)
    ax.text(
        -0.15, row, scale.label, ha="right", va="center", fontsize=9.5, color=INK,
        fontweight="bold" if error else "normal",
    )  # fmt: skip
    ticks = [*scale.ticks, (_ABSENT, "–")] if scale.absent and not error else scale.ticks
    for place, text in ticks:
        ax.plot((place, place), (row - 0.09, row + 0.09), color=MUTED, linewidth=0.7, zorder=1)
        ax.text(
            place, row + 0.14, text, ha="center", va="top", fontsize=7.5, color=MUTED, zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
        )  # fmt: skip


def _legend(figure: Figure, trials: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    best, failed = trials[0], len(result["trials"]) - len(trials)
    parts = [f"thick: trial {best['trial']}, the best ({best['criterion']:.4g})", "darker is better"]
    collapsed = sum(bool(entry["collapsed"]) for entry in trials)
    if collapsed:
        parts.append(f"dashed: collapsed ({collapsed} of {len(trials)})")
    if failed:
        parts.append(f"{failed} failed")
    color = ALERT if collapsed == len(trials) else INK
    figure.text(0.5, 0.02, " · ".join(parts), ha="center", va="bottom", fontsize=9.5, color=color)
