"""What a person sees while the analysis runs: progress and short tables.

Bars and colours are for terminals only; a log gets a plain line now and then, and one when the work is done. With
--quiet there is neither.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from processors.files import read_json
from report.loudness import is_quiet, tell
from report.numbers import duration, measurement

if TYPE_CHECKING:
    from report.sources import SourceTable

__all__ = [
    "agreement_table",
    "audit_table",
    "events_bar",
    "looks_table",
    "power_table",
    "progress_bar",
    "regions_left_out",
    "show_power",
    "show_table",
    "source_table",
    "timing_table",
    "training_bar",
    "training_remarks",
    "yields_table",
]

Tick = Callable[[int, int, str], None]
Advance = Callable[[int], None]

# Between two lines of a log [s].
INTERVAL = 30.0

# Of a log, which is read in a wide window; rich would take it for 80 columns.
_LOG_WIDTH = 120

# Texts are folded in a narrow window, but not below this many columns.
_NARROWEST_TEXT = 12


class _Console(Console):
    """Whether nobody reads on is for the command line to say, which rich would end with status 1."""

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich where a pipe is closed."""
        raise BrokenPipeError


class _Count(ProgressColumn):
    """What is done of what there is, with its unit and rate."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        text = f"{task.completed:,.0f}" + (f" / {task.total:,.0f}" if task.total is not None else "")
        speed = task.finished_speed or task.speed
        return Text(f"{text} {unit}" + (f", {speed:,.0f}/s" if unit and speed else ""))


class _Log:
    """Progress as lines of a log: what is done, the rate and the time left."""

    def __init__(self, title: str, unit: str, before: int, clock: Callable[[], float]) -> None:
        self._title, self._unit, self._before, self._clock = title, unit, before, clock
        self._begin = self._said = clock()
        self._done = before
        self._remark = ""

    def update(self, done: int, total: int, remark: str) -> None:
        self._done, self._remark = done, remark
        now = self._clock()
        if now - self._said >= INTERVAL and done < total:
            self._said = now
            rate = self._rate(now)
            left = f", {duration((total - done) / rate)} left" if rate else ""
            self._say(f"{done:,} of {total:,}{self._of(rate)}{left}")

    def end(self) -> None:
        now = self._clock()
        before = f" ({self._before:,} of them before)" if self._before else ""
        seconds = f"in {duration(max(now - self._begin, 0.1))}"
        if not self._done:
            self._say(f"done {seconds}")
            return
        self._say(f"{self._done:,}{self._of(self._rate(now))}{before} {seconds}")

    def _rate(self, now: float) -> float:
        return (self._done - self._before) / (now - self._begin) if now > self._begin else 0.0

    def _of(self, rate: float) -> str:
        return f" {self._unit}, {rate:,.0f}/s" if self._unit else ""

    def _say(self, text: str) -> None:
        remark = f" ({self._remark})" if self._remark else ""
        _Console(stderr=True).print(
            f"{self._title}: {text}{remark}", highlight=False, markup=False, soft_wrap=True
        )


@contextmanager
def progress_bar(
    title: str, *, unit: str = "", before: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Tick]:
    """Shows progress; what it yields is called with what is done, the total and a remark.

    Args:
        title: of the work.
        unit: of what is counted; with one, the rate is shown too.
        before: what was done before it began, which counts for no rate.
        clock: seconds.
    """
    if is_quiet():
        yield lambda *_: None
        return
    console = _Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        log = _Log(title, unit, before, clock)
        yield log.update
        log.end()
        return
    # Where there is little room, the bar gets shorter and nothing is broken into lines.
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(),
        _Count(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[remark]}"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, completed=before, remark="", unit=unit)
        yield lambda done, total, remark: bar.update(task, completed=done, total=total, remark=remark)
        # Training may stop early: what was done is all there was to do.
        bar.update(task, total=bar.tasks[task].completed)


@contextmanager
def training_bar(title: str, events: int) -> Iterator[Callable[[int, int, float, float], None]]:
    """Progress of a training; what it yields is called with epoch, epochs, loss and validation loss.

    Args:
        title: of the training.
        events: in an epoch.
    """
    with progress_bar(title, unit="events") as tick:

        def tell_epoch(epoch: int, epochs: int, loss: float, val_loss: float) -> None:
            remark = f"epoch {epoch} of {epochs}, loss {loss:.4g}, validation {val_loss:.4g}"
            tick(epoch * events, epochs * events, remark)

        yield tell_epoch


@contextmanager
def events_bar(title: str, before: int, total: int) -> Iterator[Advance]:
    """Progress in events; what it yields is called with the number of events that were done since.

    Args:
        title: of the stage.
        before: events that were done before it began.
        total: events in all.
    """
    done = before
    with progress_bar(title, unit="events", before=before) as tick:

        def advance(events: int) -> None:
            nonlocal done
            done += events
            tick(done, total, "")

        tick(done, total, "")
        yield advance


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> None:
    """A table on the terminal; the first column, or as many as there are `texts`, are text, the others numbers.

    Numbers are not broken into lines: where the window is too narrow, the last columns are left out, and it says so.
    """
    if is_quiet():
        return
    console = _Console()
    if not console.is_terminal:
        console = _Console(width=_LOG_WIDTH)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(header))]
    narrowest = [
        min(width, _NARROWEST_TEXT) if column < texts else width for column, width in enumerate(widths)
    ]
    shown = len(header)
    # Two spaces at either end, and three between columns.
    while shown > max(texts, 2) and sum(narrowest[:shown]) + 3 * shown + 1 > console.width:
        shown -= 1
    table = Table(box=box.SIMPLE)
    for column, name in enumerate(header[:shown]):
        table.add_column(
            name, justify="left" if column < texts else "right", overflow="fold", min_width=narrowest[column]
        )
    for row in rows:
        table.add_row(*row[:shown])
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)
    if shown < len(header):
        left = ", ".join(header[shown:])
        console.print(f"a wider window shows also: {left}", highlight=False, soft_wrap=True)


def audit_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The audit of each dataset: `Audit.rows()`."""
    show_table(
        "Audit",
        ("dataset", "group", "files", "entries", "MB", "normalisation", "findings"),
        [
            (
                row["dataset"],
                row["group"],
                f"{row['files']}",
                f"{row['entries']:,}",
                f"{row['megabytes']:,.1f}",
                row["norm_source"].removesuffix(" beside the files"),
                f"{row['fatal']} fatal, {row['warnings']} warnings"
                if row["fatal"] or row["warnings"]
                else "-",
            )
            for row in rows
        ],
    )


def looks_table(looks: Sequence[Any]) -> None:
    """What was seen of a Dask cluster: the rows of `processors.readiness.check_workers`."""
    rows = [
        (look.what, look.seen, "ok" if not look.failures else f"{len(look.failures)} missing")
        for look in looks
    ]
    show_table("Cluster", ("what", "seen", ""), rows, texts=3)


def agreement_table(region: str, result: Mapping[str, Any], *, rows: int = 6) -> None:
    """The inputs that agree worst with data: a region of agreement.json.

    Args:
        region: its name.
        result: its part of agreement.json.
        rows: how many are shown; dropped ones are shown all.
    """
    if result["status"] != "compared":
        why = "its data are blinded" if result["status"] == "blinded" else "there are no data"
        tell(f"Region {region}: no data to compare with ({why}), so every input is kept")
        return
    judged = {name: entry for name, entry in result["inputs"].items() if entry["chi2"] is not None}
    worst = sorted(
        judged, key=lambda name: (judged[name]["kept"], judged[name]["p"], -judged[name]["chi2_ndf"])
    )
    dropped = sum(not entry["kept"] for entry in judged.values())
    show_table(
        f"Region {region}: {len(judged)} inputs compared with data, {dropped} dropped",
        ("input", "chi2 / ndf", "p", "largest deviation", "in", ""),
        [
            (
                name,
                f"{entry['chi2']:.1f} / {entry['ndf']}",
                f"{entry['p']:.2g}",
                f"{entry['deviation']['pull']:+.1f}",
                f"{entry['deviation']['low']:.4g} to {entry['deviation']['high']:.4g}",
                "" if entry["kept"] else "dropped",
            )
            for name, entry in ((name, judged[name]) for name in worst[: max(rows, dropped)])
        ],
    )


def yields_table(region: str, result: Mapping[str, Any], *, blinded: bool = False) -> None:
    """Events and sums of weights of each process group of a region: its part of select.json.

    Args:
        region: its name.
        result: its part of select.json.
        blinded: leave its data out.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for book in result["datasets"].values():
        if blinded and book["kind"] == "data":
            continue
        total = groups.setdefault((book["kind"], book["group"]), [0, 0, 0.0, 0.0])
        for position, key in enumerate(("events_read", "selected", "sumw", "sumw2")):
            total[position] += book[key]
    background = [total for (kind, _), total in groups.items() if kind == "background"]
    if len(background) > 1:
        groups["background", "sum"] = [sum(column) for column in zip(*background, strict=True)]
    kinds = ("background", "data", "signal")
    ordered = sorted(
        groups.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1] == "sum", -item[1][2])
    )
    lumi = result["lumi_pb"]
    scaled = [
        f"{name} × {book['scale']:.4g}"
        for name, book in result["datasets"].items()
        if book.get("scale", 1.0) != 1.0
    ]
    show_table(
        (f"Region {region}, {lumi:,.5g} pb⁻¹" if lumi else f"Region {region}, luminosity not known")
        + (", data blinded" if blinded else "")
        + (f", INCOMPLETE, scaled up: {', '.join(scaled)}" if scaled else ""),
        ("process", "kind", "read", "selected", "sum of weights"),
        [
            (group, kind, f"{read:,.0f}", f"{selected:,.0f}", _weights(sumw, sumw2))
            for (kind, group), (read, selected, sumw, sumw2) in ordered
        ],
    )


def _weights(sumw: float, sumw2: float) -> str:
    """A sum of weights and its error, as plain text has it."""
    return measurement(sumw, sumw2**0.5).replace("\u202f", ",").replace("\u2212", "-")


def _area(score: Mapping[str, Any]) -> str:
    if score["auc"] is None:
        return "unsupported"
    return f"{score['auc']:.3f} ± {score['auc_error']:.3f}"


def power_table(region: str, result: Mapping[str, Any]) -> None:
    """AUC and signal efficiency of the score beside the best single variable: a region of evaluate.json."""
    singles = result.get("variables")
    rows = []
    for signal in result["signals"].values():
        scores = signal["scores"]
        known = singles or [name for name in scores if not name.startswith("score")]
        best = max(known, key=lambda name: scores[name]["auc"] or 0.0)
        at = {name: scores[name]["eps_s"]["1e-3"] for name in ("score", *known)}
        efficient = max(known, key=lambda name: at[name]["value"] or 0.0)
        told = f" {efficient}" if at[efficient]["value"] is not None else ""
        against = (scores["score"].get("against_best") or {}).get("auc") or {}
        difference = against.get("difference")
        rows.append(
            (
                signal["process"],
                _area(scores["score"]),
                best,
                _area(scores[best]),
                "-" if difference is None else f"{difference:+.3f} ± {against['error']:.3f}",
                _efficiency(at["score"]),
                _efficiency(at[efficient]) + told,
            )
        )
    header = ("signal", "AUC", "best var.", "its AUC", "difference", "eps_S(1e-3)", "best var. there")
    show_table(f"Region {region}: power against held-out background", header, rows)
    _summary_table(region, result.get("summary") or {})


# Of these many are compared, and the terminal names one of each.
_RIVALS = ("baseline", "variable")


def _best_rivals(scores: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The baseline and the variable of the largest mean AUC."""
    best = set()
    for role in _RIVALS:
        known = {
            name: entry["delta_auc"]["mean"]
            for name, entry in scores.items()
            if entry["role"] == role and entry.get("delta_auc")
        }
        if known:
            best.add(max(known, key=lambda name: known[name]))
    return best


def _efficiency(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"- (n_eff {found['n_eff_background']:.2g})"
    return f"{found['value']:.2f} ± {found['error']:.2f}"


def _summary_table(region: str, summary: Mapping[str, Any]) -> None:
    """Means over all signals of the model's scores, and of the best baseline and variable."""
    rows = []
    scores: Mapping[str, Mapping[str, Any]] = summary.get("scores") or {}
    shown = _best_rivals(scores)
    for name, entry in scores.items():
        if entry["role"] in _RIVALS and name not in shown:
            continue
        delta = entry.get("delta_auc")
        points = (entry["eps_s"][point] for point in ("1e-2", "1e-3"))
        rows.append(
            (
                name.replace("_", " ") if entry["role"] == "oracle" else name,
                f"{delta['mean']:+.4f} ± {delta['error']:.4f}" if delta else "-",
                f"{delta['worst']:+.4f} ± {delta['worst_error']:.4f}" if delta else "-",
                *("-" if p["mean"] is None else f"{p['mean']:.3f} ± {p['error']:.3f}" for p in points),
            )
        )
    if rows:
        header = ("score", "dAUC to best var., mean", "worst", "eps_S(1e-2)", "eps_S(1e-3)")
        title = f"Region {region}: means over {len(summary['signals'])} signals"
        left = len(scores) - len(rows)
        show_table(f"{title} ({left} weaker rivals in evaluate.json)" if left else title, header, rows)


_FEW_PER_INPUT = 10  # training events for each input, below which a model is said to have seen too little


def training_remarks(bundle: Path, card: Mapping[str, Any]) -> None:
    """What must be known of a model that was just trained: that it learnt nothing, or from next to nothing."""
    from models.fitting import collapse_remark  # noqa: PLC0415 - --help must be quick

    if remark := collapse_remark(card):
        tell(f"{bundle} {remark}", fg="yellow")
    n_train, n_inputs = card["trained_on"]["n_train"], len(card["features"])
    if n_train < _FEW_PER_INPUT * n_inputs:
        tell(
            f"{bundle} was trained on {n_train} events alone, with {n_inputs} inputs: what it finds anomalous is what "
            "these few lack",
            fg="yellow",
        )


def regions_left_out(selection: Path, regions: Collection[str]) -> None:
    """Which regions that were selected before are no longer part of the results.

    Args:
        selection: ``select.json`` as it was before.
        regions: that are selected now.
    """
    before = read_json(selection)["regions"] if selection.is_file() else {}
    if others := [name for name in before if name not in regions]:
        tell(
            f"region {', '.join(others)} of an earlier run stays on disk and leaves the results in "
            f"{selection.parent}: select all regions together, or give another --output",
            fg="yellow",
        )


def show_power(region: str, result: dict[str, Any], datasets: dict[str, Any]) -> None:
    """A region's power for each signal, and in the form of a source where the model is one of theirs."""
    from models.fitting import collapse_remark  # noqa: PLC0415 - --help must be quick
    from report.sources import source_table as in_the_sources_form  # noqa: PLC0415
    from report.style import SOURCES  # noqa: PLC0415

    if not result["signals"]:
        tell(f"Region {region}: the fileset has no signal samples, so there is no power to tell")
        return
    power_table(region, result)
    if remark := collapse_remark(result["model"]["card"]):
        tell(f"model {result['model']['name']} {remark}", fg="yellow")
    background = [book for book in datasets.values() if book["kind"] == "background"]
    table = in_the_sources_form(
        region,
        result,
        events=SOURCES.get(background[0]["sample"], background[0]["sample"]),
        background_sumw=sum(book["sumw"] * book["scale"] for book in background),
    )
    if table is not None:
        source_table(table)


def source_table(table: "SourceTable") -> None:
    """The result in the form of the report or of the thesis, with what must be known to read it."""
    show_table(table.title, table.header, table.rows)
    for note in table.notes:
        tell(f"note: {note}")


def timing_table(timings: Mapping[str, float], stages: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Seconds spent in each stage, and where events were read how fast.

    Args:
        timings: stage -> seconds.
        stages: stage -> what run.json says of it; stages that read no events may be absent.
    """
    rows = []
    for stage, seconds in timings.items():
        counted = (stages or {}).get(stage, {})
        events, rate = counted.get("events", 0), counted.get("events_per_second")
        rows.append(
            (
                stage,
                f"{seconds:,.1f}",
                f"{events:,}" if events else "",
                f"{rate:,.0f}" if rate else "",
                f"{counted['bytes_read'] / 1e6:,.1f}" if events else "",
            )
        )
    rows.append(("total", f"{sum(timings.values()):.1f}", "", "", ""))
    show_table("Time spent", ("stage", "seconds", "events", "events/s", "MB read"), rows)
