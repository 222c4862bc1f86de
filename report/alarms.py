"""False alarms on the page: claimed and measured rates, injected and found significances, and the blind mix."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from report.alarm_figures import draw_calibration, draw_false_alarms, draw_injection
from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.numbers import count, measurement, p_value, significant
from report.pictures import Drawing
from report.power import signal_name
from report.processes import Process, processes_of
from report.sections import Section, of_region
from report.tables import Cell, Table

__all__ = ["ALARMS_HEADER", "alarms_rows", "alarms_section"]

ALARMS_HEADER = (
    "region",
    "claimed rate",
    "false alarms",
    "measured rate",
    "99.9 % interval",
    "",
    "blind mix",
)

_PANELS = 6  # signals that are drawn; the table has all
_DASH = Cell("\u2013", None)


def alarms_rows(region: str, entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Claimed and measured rates of false alarms for the terminal, as `ALARMS_HEADER` names the columns.

    Args:
        region: name of the region.
        entry: its part of ``alarms.json``.
    """
    if entry.get("unsupported"):
        return [(region, "", "", "", "", "unsupported", "")]
    rates, mix = entry["false_positives"], entry["blind_mix"]
    return [
        (
            region,
            f"{level['claimed']:g}",
            f"{level['passing']} of {rates['toys']}",
            significant(level["rate"], 2),
            f"{significant(level['low'], 2)} to {significant(level['high'], 2)}",
            "inside" if level["inside"] else "OUTSIDE",
            mix["outcome"] if mix else "",
        )
        for level in rates["levels"]
    ]


def alarms_section(output: Path, region: Region) -> Section | None:
    """The section of a region; None where its false alarms were not counted.

    Args:
        output: directory of the whole analysis, with ``alarms.json``.
        region: names of signals and what is written on figures.
    """
    entry = of_region(output, "alarms", region.name)
    if not entry:
        return None
    title = "False alarms, injected signals, and a blind mix"
    cuts = _cuts_table(region.name, entry)
    if entry.get("unsupported"):
        text = (
            "<p>Not supported: above no cut are there ten effective held-out background events in each half of them, "
            "five of them behind the statistical error, so no pseudo-experiment can be drawn. More simulated "
            "background is needed.</p>"
        )
        return Section("alarms", title, text, (cuts,))
    processes = processes_of(region.datasets)
    tables = [_rates_table(region.name, entry), _injection_table(region.name, entry, processes), cuts]
    if entry["blind_mix"]:
        tables.insert(2, _mix_table(region.name, entry["blind_mix"]))
    return Section(
        "alarms",
        title,
        _verdict_text(entry, processes) + _method_text(entry),
        tuple(tables),
        tuple(_drawings(region, entry, processes)),
    )


def _verdict_text(entry: Mapping[str, Any], processes: Sequence[Process]) -> str:
    rates = entry["false_positives"]
    held = all(level["inside"] for level in rates["levels"])
    first = rates["levels"][0]
    text = (
        f"<p>Of {count(rates['toys'])} pseudo-experiments without a signal {count(first['passing'])} have a global "
        f"p below {first['claimed']:g}, where {count(first['claimed'] * rates['toys'])} are claimed. "
        + (
            "All claimed rates of false alarms are inside the binomial 99.9 % intervals of the measured ones."
            if held
            else "<strong>Not all claimed rates of false alarms are inside the binomial 99.9 % intervals of the "
            "measured ones: the global p of this search is not what it says.</strong>"
        )
        + "</p>"
    )
    return text + (_mix_text(entry["blind_mix"], processes) if entry["blind_mix"] else "")


def _mix_text(mix: Mapping[str, Any], processes: Sequence[Process]) -> str:
    """What was said of the blind mix, and what was in it."""
    verdict, envelope = mix["verdict"], mix["envelope"]
    p = escape(_equals(verdict["global_p"], verdict["global_toys"]))
    said = f"something is there (global p {p})" if verdict["found"] else f"nothing is found (global p {p})"
    inside = "no signal"
    if envelope["signal"] is not None:
        name = to_html(signal_name(envelope["signal"], {}, processes))
        inside = f"{name} of {envelope['expected']:g} expected standard deviations"
    outcome = {
        "found": "the hidden signal was <strong>found</strong>",
        "missed": "the hidden signal was <strong>not found</strong>",
        "false alarm": "this was a <strong>false alarm</strong>",
        "rightly silent": "there was nothing to be found: <strong>rightly not found</strong>",
    }[mix["outcome"]]
    return (
        f"<p>Blind mix: the search said that {said}, at a level of {verdict['alarm']:g}. Its envelope, "
        f"opened after that, held {inside}: {outcome}.</p>"
    )


def _equals(p: float | None, toys: int) -> str:
    """Write "= 0.012" or "< 1/100 000"."""
    text = p_value(p, toys)
    return text if text.startswith("<") else f"= {text}"


def _method_text(entry: Mapping[str, Any]) -> str:
    settings, lumi = entry["settings"], entry["lumi_pb"]
    systematic = (
        f" and a common relative error of {settings['systematic']:g}" if settings["systematic"] else ""
    )
    at = f"the {lumi:g} pb<sup>\u22121</sup> of the sample" if lumi else "the luminosity of the sample"
    return (
        "<p>The search counts events above cuts on the score with stated background efficiencies. The local p of a "
        "count is that of a Poisson count on a background that is known from a finite simulation (negative binomial, "
        f"NIM A 595 (2008) 480){systematic}; the global p is the part of {count(settings['calibration_toys'])} "
        "pseudo-experiments with as small a local p above any cut. One half of the held-out background, by a hash, "
        "fixes cuts and global p; from the other half pseudo-experiments are drawn, each with pseudo-data at "
        f"{at} and with a simulation of its own: the statistical error of the simulation is part of "
        "the rate. No collision data take part.</p>"
    )


def _cuts_table(region: str, entry: Mapping[str, Any]) -> Table:
    rows = []
    for name, cut in entry["cuts"].items():
        row = [Cell(_power_of_ten(name), float(name))]
        if cut.get("unsupported"):
            row += [_DASH, _DASH, _DASH]
        else:
            row.append(Cell(significant(cut["cut"]), cut["cut"]))
            row += [
                Cell(measurement(events, error), events, error)
                for events, error in zip(cut["events"], cut["error"], strict=True)
            ]
        row += [Cell(significant(n), n) for n in cut["n_eff"]]
        pull = cut.get("pull")
        row.append(
            _DASH if pull is None else Cell(f"{pull:+.1f}".replace("-", "\u2212"), pull),
        )
        rows.append(row)
    return Table(
        name=f"{region}_alarms_cuts",
        caption="Cuts of the search, with the background that each half of the held-out events expects above them, its "
        "effective number of events, and the difference of the halves over its error. A cut with fewer than ten "
        "effective events in a half, or fewer than five that its statistical error comes from (few heavy events among "
        "many light ones), is not used.",
        columns=[
            "ε<sub>B</sub>", "Score", "Expected,<br>first half", "Expected,<br>second half",
            "n<sub>eff</sub>,<br>first half", "n<sub>eff</sub>,<br>second half", "Pull",
        ],
        rows=rows,
    )  # fmt: skip


def _power_of_ten(name: str) -> str:
    return f"10<sup>{name.partition('e')[2]}</sup>".replace("-", "\u2212")


def _rates_table(region: str, entry: Mapping[str, Any]) -> Table:
    rates = entry["false_positives"]
    rows = []
    for level in rates["levels"]:
        row = [Cell(f"{level['claimed']:g}", level["claimed"])]
        for found in (level, level["uncorrected"]):
            verdict = "inside" if found["inside"] else "outside"
            interval = f"{significant(found['low'], 2)} to {significant(found['high'], 2)}"
            row += [
                Cell(count(found["passing"]), found["passing"]),
                Cell(significant(found["rate"], 2), found["rate"]),
                Cell(f"{interval} <small>{verdict}</small>", verdict, strong=not found["inside"]),
            ]
        rows.append(row)
    return Table(
        name=f"{region}_alarms_rates",
        caption=f"False alarms of {count(rates['toys'])} pseudo-experiments without a signal, with the binomial 99.9 % "
        "interval of their rate (Clopper and Pearson), and whether the claimed rate is inside; beside it what the "
        "smallest local p would give that is taken for a global one.",
        columns=[
            "Claimed", "Alarms", "Rate", "99.9 % interval", "Alarms,<br>local p", "Rate,<br>local p",
            "99.9 % interval,<br>local p",
        ],
        rows=rows,
    )  # fmt: skip


def _injection_table(region: str, entry: Mapping[str, Any], processes: Sequence[Process]) -> Table:
    expected = entry["settings"]["injected"]
    rows = []
    for key, signal in entry["injection"].items():
        label = signal_name(key, signal, processes)
        row = [Cell(to_html(label), to_plain(label))]
        if signal.get("unsupported"):
            rows.append([*row, Cell("unsupported", "unsupported"), *[_DASH] * (2 * len(expected))])
            continue
        row.append(Cell(_power_of_ten(signal["region"]), float(signal["region"])))
        for strength in signal["injected"]:
            local = strength["local"]
            text = f"{local['median']:.2f} <small>{measurement(strength['bias'], local['error'])}</small>"
            row.append(Cell(text.replace("-", "\u2212"), strength["bias"], local["error"]))
        row += [
            Cell(
                measurement(strength["found"], strength["found_error"]),
                strength["found"],
                strength["found_error"],
            )
            for strength in signal["injected"]
        ]
        rows.append(row)
    alarm = min(entry["settings"]["levels"])
    return Table(
        name=f"{region}_alarms_injection",
        caption="Injected signals: median of the local significance found above the cut in which the signal is "
        f"expected to be seen first, of {count(entry['settings']['toys'])} pseudo-experiments, and beside it in "
        "small print its difference to the expected one (Asimov, background known within its error); then the part "
        f"of them in which the search finds something (global p &lt; {alarm:g}).",
        columns=[
            "Signal", "Cut, ε<sub>B</sub>", *(f"Median,<br>{z:g}σ expected" for z in expected),
            *(f"Found,<br>{z:g}σ expected" for z in expected),
        ],
        rows=rows,
    )  # fmt: skip


def _mix_table(region: str, mix: Mapping[str, Any]) -> Table:
    verdict = mix["verdict"]
    global_p = p_value(verdict["global_p"], verdict["global_toys"])
    rows = []
    for name, counts in verdict["counts"].items():
        decided, z = name == verdict["region"], counts["local_significance"]
        rows.append(
            [
                Cell(_power_of_ten(name), float(name)),
                Cell(count(counts["count"]), counts["count"]),
                Cell(measurement(counts["events"], counts["error"]), counts["events"], counts["error"]),
                Cell(significant(counts["local_p"], 2), counts["local_p"], strong=decided),
                Cell(f"{z:.1f}".replace("-", "\u2212"), z),
                Cell(escape(global_p), verdict["global_p"] or global_p, strong=True) if decided else _DASH,
            ]
        )
    return Table(
        name=f"{region}_alarms_mix",
        caption="The blind mix as the search saw it, before its envelope was opened: the smallest local p decides.",
        columns=["ε<sub>B</sub>", "Counted", "Expected", "Local p", "Local σ", "Global p"],
        rows=rows,
    )


def _drawings(region: Region, entry: Mapping[str, Any], processes: Sequence[Process]) -> list[Drawing]:
    sample, rates, injection = region.sample, entry["false_positives"], entry["injection"]
    labels = {key: signal_name(key, injection[key], processes) for key in _chosen(injection)}
    drawings = [
        region_drawing(
            region,
            partial(draw_false_alarms, rates, sample=sample),
            rates,
            name="alarms_rate",
            title="Measured against claimed rate of false alarms",
            alt=f"Rate of false alarms of {rates['toys']} pseudo-experiments against the claimed rate, with the band "
            "in which it should be.",
        ),
        region_drawing(
            region,
            partial(draw_calibration, entry["calibration"], cuts=_used(entry), sample=sample),
            entry["calibration"],
            name="alarms_calibration",
            title="Largest local significance without a signal, and the global p that follows",
            alt="Histogram of the largest local significance of pseudo-experiments without a signal, and the global p "
            "against the smallest local p.",
        ),
    ]
    if labels:
        drawings.append(
            region_drawing(
                region,
                partial(draw_injection, injection, labels=labels, sample=sample),
                injection,
                name="alarms_injection",
                title="Found against injected significance",
                alt="Median and bands of the significance found, against that of the injected signal, for "
                f"{', '.join(to_plain(label) for label in labels.values())}.",
            )
        )
    return drawings


def _used(entry: Mapping[str, Any]) -> int:
    return sum(not cut.get("unsupported") for cut in entry["cuts"].values())


def _chosen(injection: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Signals that are drawn: the first of each group, then others."""
    usable = [key for key, signal in injection.items() if not signal.get("unsupported")]
    groups = [injection[key]["group"] for key in usable]
    first = [key for place, key in enumerate(usable) if groups[place] not in groups[:place]]
    chosen = [*first, *(key for key in usable if key not in first)][:_PANELS]
    return [key for key in usable if key in chosen]
