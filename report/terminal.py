"""What a person sees while the analysis runs: progress bars and short tables; colours only on a terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = [
    "agreement_table",
    "audit_table",
    "power_table",
    "progress_bar",
    "show_table",
    "timing_table",
    "yields_table",
]

Tick = Callable[[int, int, str], None]


@contextmanager
def progress_bar(title: str) -> Iterator[Tick]:
    """A progress bar; what it yields is called with what is done, the total and a remark."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remark]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, remark="")
        yield lambda done, total, remark: bar.update(task, completed=done, total=total, remark=remark)
        # Training may stop early: what was done is all there was to do.
        bar.update(task, total=bar.tasks[task].completed)


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on the terminal; the first column is text, the others are numbers."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A log is read in a wide window; rich would take it for 80 columns.
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


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


def agreement_table(region: str, result: Mapping[str, Any], *, rows: int = 6) -> None:
    """The inputs that agree worst with data: a region of agreement.json.

    Args:
        region: its name.
        result: its part of agreement.json.
        rows: how many are shown; dropped ones are shown all.
    """
    if result["status"] != "compared":
        why = "its data are blinded" if result["status"] == "blinded" else "there are no data"
        Console().print(f"Region {region}: no data to compare with ({why}), so every input is kept")
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
    kinds = ("background", "data", "signal")
    ordered = sorted(groups.items(), key=lambda item: (kinds.index(item[0][0]), -item[1][2]))
    lumi = result["lumi_pb"]
    show_table(
        (f"Region {region}, {lumi:,.5g} pb⁻¹" if lumi else f"Region {region}, luminosity not known")
        + (", data blinded" if blinded else ""),
        ("process", "kind", "read", "selected", "sum of weights"),
        [
            (group, kind, f"{read:,.0f}", f"{selected:,.0f}", f"{sumw:,.5g} ± {sumw2**0.5:.2g}")
            for (kind, group), (read, selected, sumw, sumw2) in ordered
        ],
    )


def _area(score: Mapping[str, Any]) -> str:
    if score["auc"] is None:
        return "unsupported"
    return f"{score['auc']:.3f} ± {score['auc_error']:.3f}"


def power_table(region: str, result: Mapping[str, Any]) -> None:
    """Area under the ROC curve of each signal beside the best single variable: a region of evaluate.json."""
    rows = []
    for signal in result["signals"].values():
        scores = signal["scores"]
        best = max((name for name in scores if name != "score"), key=lambda name: scores[name]["auc"] or 0.0)
        rows.append((signal["process"], _area(scores["score"]), best, _area(scores[best])))
    header = ("signal", "AUC of the score", "best single variable", "its AUC")
    show_table(f"Region {region}: power against held-out background", header, rows)


def timing_table(timings: Mapping[str, float]) -> None:
    """Seconds spent in each stage."""
    rows = [(stage, f"{seconds:.1f}") for stage, seconds in timings.items()]
    show_table("Time spent", ("stage", "seconds"), [*rows, ("total", f"{sum(timings.values()):.1f}")])
