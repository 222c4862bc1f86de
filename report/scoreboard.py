"""The table of models, baselines and single variables on the page: who finds which signal, within which errors."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from report.gallery import Region, region_drawing
from report.improvement import improvement_curves
from report.mathtext import to_html, to_plain
from report.numbers import count, measurement, significant
from report.pictures import Drawing
from report.power import SCORE, compared, contestant_label, signal_name
from report.processes import Process, processes_of
from report.sections import Section
from report.tables import Cell, Table, power_of_ten

__all__ = ["scoreboard_section"]

_BEST = "best_variable"
_ROLES = {
    "model": "model",
    "score": "other score of the model",
    "baseline": "baseline, no network",
    "variable": "single variable",
    "oracle": "knows each signal",
    "ceiling": "saw this signal",
}
_POINTS = ("1e-1", "1e-2", "1e-3", "1e-4")
_DASH = "\u2013"


def scoreboard_section(output: Path, region: Region) -> Section | None:  # noqa: ARG001 - as all sections are called
    """Every score beside baselines and the best single variable; None where evaluate has not compared them.

    Args:
        output: directory of the whole analysis.
        region: with its part of evaluate.json.
    """
    result = region.evaluation
    summary = result.get("summary")
    if not summary or not result.get("signals"):
        return None
    processes = processes_of(region.datasets)
    signals: Mapping[str, Mapping[str, Any]] = result["signals"]
    names = {key: signal_name(key, entry, processes) for key, entry in signals.items()}
    others = {key: str(entry["label"]) for key, entry in (result.get("processes") or {}).items()}
    tables = [_goal_table(region.name, summary, names)] if summary["scores"] else []
    tables += [
        _measure_table(region.name, measure, signals, names, processes)
        for measure in ("auc", "1e-3", "significance_improvement")
    ]
    if others:
        tables.append(
            _measure_table(region.name, "auc", result["processes"], others, processes, of="processes")
        )
    tables.append(_support_table(region.name, next(iter(signals.values()))["scores"]))
    return Section(
        key="scoreboard",
        title="Models, baselines and single variables",
        text=_text(result, names),
        tables=tables,
        drawings=_drawings(region, names),
    )


def _text(result: Mapping[str, Any], names: Mapping[str, str]) -> str:
    summary = result["summary"]
    scores: Mapping[str, Mapping[str, Any]] = summary["scores"]
    found = scores.get(SCORE, {}).get("delta_auc")
    if found is None:
        first = "Too few events are left for any signal to be compared."
    else:
        first = (
            "Against the best single variable of each signal, which nobody knows who does not know the signal, the AUC "
            f"of the score is {_signed(found['mean'], found['error'])} on average over "
            f"{len(summary['signals'])} signals and {_signed(found['worst'], found['worst_error'])} for the worst, "
            f"{to_html(names[found['worst_signal']])}."
        )
    left = [to_html(names[name]) for name in summary["left_out"] if name in names]
    out = f" Without enough events: {', '.join(left)}." if left else ""
    how = result.get("bootstrap") or {}
    errors = (
        f"<p>Errors are from {how.get('replicas')} replicas of all events (bootstrap with Poisson weights, seed "
        f"{how.get('seed')}), the same for every score, so those of differences and ratios hold what two scores have "
        "in common. The best variable is chosen for each row and measure among values that fluctuate, which favours "
        "it. A dash stands where fewer than ten effective events support a number.</p>"
    )
    return f"<p>{first}{out}</p>{errors}"


def _signed(value: float, error: float) -> str:
    """A difference ± error with its sign."""
    text = measurement(value, error)
    return f"+{text}" if value > 0 else text


def _goal_table(region: str, summary: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Means over all signals, every contestant a row."""
    rows = []
    for name, entry in summary["scores"].items():
        delta = entry.get("delta_auc") or {}
        oracle = entry["role"] == "oracle"
        label = "Best variable of each signal" if oracle else contestant_label(name)
        row = [
            Cell(to_html(label), to_plain(label), strong=name == SCORE),
            Cell(_ROLES.get(entry["role"], entry["role"]), entry["role"]),
            _number(entry["auc"]["mean"], entry["auc"]["error"]),
        ]
        if oracle:
            row += [Cell("0", 0.0), Cell("0", 0.0)]
        else:
            worst = delta.get("worst_signal")
            of = f" <small>{to_html(names.get(worst, worst))}</small>" if worst else ""
            row += [_number(delta.get("mean"), delta.get("error"), sign=True)]
            row += [_number(delta.get("worst"), delta.get("worst_error"), sign=True, after=of)]
        for point in _POINTS:
            found = entry["eps_s"][point]
            row.append(_number(found["mean"], found["error"], why=found.get("reason", "")))
        ratio = entry["eps_s"]["1e-3"]
        row.append(
            _number(ratio["ratio"], None if oracle else ratio["ratio_error"], why=ratio.get("reason", ""))
        )
        seeds = entry.get("seeds")
        row.append(_span(seeds["delta_auc_worst"]) if seeds else Cell("", None))
        row.append(_span(seeds["eps_s"]["1e-3"] or []) if seeds else Cell("", None))
        rows.append(row)
    return Table(
        name=f"{region}_scoreboard",
        caption=f"Means over {len(summary['signals'])} signals, each of the same weight. ΔAUC is relative to the best "
        "single variable of each signal, and so is the ratio of the means of ε<sub>S</sub>, which takes the best at "
        "this ε<sub>B</sub>. Ranges are over networks that differ by their seed alone.",
        columns=[
            "Score", "What it is", "AUC", "ΔAUC, mean", "ΔAUC, worst",
            *(f"ε<sub>S</sub> at ε<sub>B</sub> = {power_of_ten(point)}" for point in _POINTS),
            "ratio to best variables at 10<sup>\u22123</sup>", "worst ΔAUC,<br>seeds",
            "ε<sub>S</sub> at 10<sup>\u22123</sup>,<br>seeds",
        ],
        rows=rows,
    )  # fmt: skip


_CAPTIONS = {
    "auc": "AUC of every score for each",
    "1e-3": "ε<sub>S</sub> at ε<sub>B</sub> = 10<sup>\u22123</sup> of every score for each",
    "significance_improvement": "Largest significance improvement ε<sub>S</sub>/√ε<sub>B</sub> of every score, at a "
    "cut that leaves ten effective background events at least, for each",
}


def _measure_table(
    region: str,
    measure: str,
    entries: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
    processes: Sequence[Process],
    *,
    of: str = "signals",
) -> Table:
    """One measure of all contestants for every signal or background process."""
    first = next(iter(entries.values()))["scores"]
    main = list(compared(first, ("model", "baseline")))
    variables = [name for name in compared(first) if name != SCORE]
    ceiling = any(entry.get("ceiling") for entry in entries.values())
    with_seeds = any(entry["scores"][SCORE].get("seeds") for entry in entries.values())
    relative = {"auc": "score \u2212 best", **dict.fromkeys(_POINTS, "score / best")}
    colors = {process.key: process.color for process in processes}
    rows = []
    for key, entry in entries.items():
        color = colors.get(str(entry.get("process", key)), "")
        row = [
            Cell(to_html(names[key]), to_plain(names[key]), color=color),
            Cell(count(entry["n"]), entry["n"]),
        ]
        shown = {name: _value(entry["scores"][name], measure) for name in (*main, *variables)}
        best = (entry.get(_BEST) or {}).get(measure) or ((entry.get(_BEST) or {}).get("eps_s") or {}).get(
            measure
        )
        row += [_measured(shown[SCORE])]
        if with_seeds:
            row.append(_seeds(entry["scores"][SCORE].get("seeds"), measure))
        label = f" <small>{to_html(contestant_label(best))}</small>" if best else ""
        row.append(_measured(shown[best], after=label) if best else Cell(_DASH, None))
        if measure in relative:
            row.append(_against(entry["scores"][SCORE].get("against_best") or {}, measure))
        row += [_measured(shown[name]) for name in main if name != SCORE]
        row += [_measured(shown[name]) for name in variables]
        if ceiling:
            row.append(
                _measured(_value(entry["ceiling"], measure)) if entry.get("ceiling") else Cell(_DASH, None)
            )
        rows.append(row)
    what = "signal" if of == "signals" else "background process against all others"
    return Table(
        name=f"{region}_scoreboard_{measure.replace('significance_', '')}{'_processes' if of == 'processes' else ''}",
        caption=f"{_CAPTIONS[measure]} {what}."
        + (" Trees saw half of the signal, and are no rival but a ceiling." if ceiling else ""),
        columns=[
            "Signal" if of == "signals" else "Process", "Events", "Score", *(["range over seeds"] * with_seeds),
            "best variable", *([relative[measure]] if measure in relative else []),
            *(to_html(contestant_label(name)) for name in main if name != SCORE),
            *(to_html(contestant_label(name)) for name in variables),
            *(["trees, saw this signal"] * ceiling),
        ],
        rows=rows,
    )  # fmt: skip


def _value(entry: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """Value and error of a measure of one score, with the reason where there is none."""
    if measure == "auc":
        return {"value": entry["auc"], "error": entry["auc_error"], "reason": entry.get("reason", "")}
    found = entry["significance_improvement"] if measure not in _POINTS else entry["eps_s"][measure]
    return dict(found)


def _measured(found: Mapping[str, Any], *, after: str = "") -> Cell:
    return _number(found["value"], found["error"], why=str(found.get("reason", "")), after=after)


def _against(found: Mapping[str, Any], measure: str) -> Cell:
    """Score less, or over, the best variable."""
    if measure == "auc":
        entry = found.get("auc") or {}
        return _number(entry.get("difference"), entry.get("error"), sign=True)
    entry = (found.get("eps_s") or {}).get(measure) or found.get(measure) or {}
    return _number(entry.get("ratio"), entry.get("error"))


def _seeds(seeds: Mapping[str, Any] | None, measure: str) -> Cell:
    if not seeds:
        return Cell(_DASH, None)
    found = seeds["eps_s"][measure] if measure in _POINTS else seeds[measure]
    return _span(found["values"]) if found["min"] is not None else Cell(_DASH, None)


def _span(values: Sequence[float | None]) -> Cell:
    """Least to largest of some values, and their number."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Cell(_DASH, None)
    low, high = (f"{end:.3f}" for end in (min(known), max(known)))
    text = f"{low} to {high}"
    return Cell(f"{text} <small>{len(known)}</small>".replace("-", "\u2212"), text)


def _number(
    value: float | None, error: float | None, *, sign: bool = False, after: str = "", why: str = ""
) -> Cell:
    """A number with its error; a dash with the reason where there is none."""
    if value is None:
        number, _, _ = why.partition(" effective")
        brief = f"n<sub>eff</sub> {escape(number)}" if number != why else escape(why)
        reason = f' <small title="{escape(why)}">{brief}</small>' if why else ""
        return Cell(f"{_DASH}{reason}", None)
    text = measurement(value, error)
    return Cell(("+" if sign and value > 0 else "") + text + after, value, error)


def _support_table(region: str, scores: Mapping[str, Mapping[str, Any]]) -> Table:
    """Effective number of background events behind each background efficiency: of each score its own."""
    rows = []
    for name, entry in compared(scores, ("model", "score", "baseline", "variable")).items():
        numbers = [entry["eps_s"][point]["n_eff_background"] for point in _POINTS]
        rows.append(
            [
                Cell(to_html(contestant_label(name)), to_plain(contestant_label(name))),
                *(Cell(significant(number), number, strong=number < 10) for number in numbers),
            ]
        )
    return Table(
        name=f"{region}_scoreboard_support",
        caption="Effective number of background events (Σw)²/Σw² above the cut at each ε<sub>B</sub>; below ten, "
        "emphasised, nothing is told of this ε<sub>B</sub>.",
        columns=["Score", *(f"ε<sub>B</sub> = {power_of_ten(point)}" for point in _POINTS)],
        rows=rows,
    )


def _drawings(region: Region, names: Mapping[str, str]) -> list[Drawing]:
    """Significance improvement of each signal, as many as there are figures of power."""
    drawings = []
    for key, entry in list(region.evaluation["signals"].items())[: region.settings.max_power_figures]:
        if entry["scores"].get(SCORE, {}).get("significance_improvement", {}).get("value") is None:
            continue
        process = str(entry.get("process", key))
        drawings.append(
            region_drawing(
                region,
                partial(improvement_curves, entry, label=names[key], sample=region.sample),
                {"signal": key, "scores": entry["scores"]},
                name=f"scoreboard_{process}",
                title=f"Significance improvement: {to_html(names[key])}",
                alt=f"ε_S/√ε_B against the signal efficiency for {to_plain(names[key])}, of the score and its best "
                "rivals.",
            )
        )
    return drawings
