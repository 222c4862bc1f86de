"""What a person sees while it runs: bars on a terminal; in a log plain lines, now and then, without any colour."""

import json
import re
import time
from pathlib import Path

import pytest

from report.terminal import (
    INTERVAL,
    events_bar,
    power_table,
    progress_bar,
    regions_left_out,
    show_table,
    timing_table,
    training_bar,
    training_remarks,
    yields_table,
)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich writes to counts as a terminal, 200 characters wide."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with progress_bar("selecting 2L", unit="events", clock=clock) as tick:
        for second in range(1, 91):
            clock.now = 100.0 + second
            tick(second * 1000, 90_000, "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "selecting 2L: 30,000 of 90,000 events, 1,000/s, 1 min 00 s left",
        "selecting 2L: 60,000 of 90,000 events, 1,000/s, 30 s left",
        "selecting 2L: 90,000 events, 1,000/s in 1 min 30 s",
    ]


def test_a_rate_counts_only_what_is_done_now(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with progress_bar("selecting 2L", unit="events", before=50_000, clock=clock) as tick:
        clock.now += INTERVAL
        tick(53_000, 60_000, "")
        clock.now += INTERVAL
        tick(60_000, 60_000, "")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "selecting 2L: 53,000 of 60,000 events, 100/s, 1 min 10 s left"
    assert lines[1] == "selecting 2L: 60,000 events, 167/s (50,000 of them before) in 1 min 00 s"


def test_what_is_not_counted_in_events_has_no_rate(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with progress_bar("training 2L", clock=clock) as tick:
        clock.now += INTERVAL
        tick(3, 30, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "training 2L: 3 of 30, 4 min 30 s left (loss 0.5)",
        "training 2L: 3 in 30 s (loss 0.5)",
    ]


def test_long_lines_of_a_log_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("x" * 200):
        pass
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_bar_with_events_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with events_bar("selecting 2L", 1_000_000, 3_000_000) as advance:
        advance(500_000)
        advance(1_500_000)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "selecting 2L" in shown
    assert "1,000,000 events" in shown  # what was done before
    assert re.search(r"3,000,000 / 3,000,000 events, [\d,]+/s", shown)


def test_the_events_of_a_stage_are_added_up(capsys: pytest.CaptureFixture[str]) -> None:
    with events_bar("scoring 2L", 10, 60) as advance:
        advance(20)
        advance(30)
    assert capsys.readouterr().err.startswith("scoring 2L: 60 events")


def test_the_table_of_times_says_what_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    stages = {
        "select": {"seconds": 10.0, "events": 2_000_000, "events_per_second": 400_000.0, "bytes_read": 3e8},
        "score": {"seconds": 2.0, "events": 0, "events_per_second": 0.0, "bytes_read": 0},
    }
    timing_table({"select": 10.0, "train": 30.0, "score": 2.0}, stages)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["select", "10.0", "2,000,000", "400,000", "300.0"] in rows
    assert ["train", "30.0"] in rows
    assert ["score", "2.0"] in rows
    assert ["total", "42.0"] in rows


@pytest.mark.usefixtures("terminal")
def test_a_bar_fits_into_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with events_bar("selecting 2L", 0, 10_000_000) as advance:
        time.sleep(0.01)  # rates of nothing are long numbers
        advance(3000)
        time.sleep(0.01)
        advance(9_997_000)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line for line in re.split(r"[\r\n]", shown) if line.strip()]
    assert all("selecting 2L" in line and len(line) <= 80 for line in lines)


def test_yields_of_incomplete_input_say_so_and_what_is_scaled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    book = {
        "kind": "background",
        "group": "ttbar",
        "events_read": 8,
        "selected": 4,
        "sumw": 4.0,
        "sumw2": 4.0,
    }
    datasets = {"410000.ttbar_lep.2lep": {**book, "scale": 1.25}, "361106.Zee.2lep": {**book, "scale": 1.0}}
    yields_table("2L", {"lumi_pb": 100.0, "datasets": datasets})
    title = " ".join(capsys.readouterr().out.split())  # a title is as wide as its table
    assert "INCOMPLETE, scaled up: 410000.ttbar_lep.2lep × 1.25" in title
    assert "Zee" not in title
    yields_table("2L", {"lumi_pb": 100.0, "datasets": {"361106.Zee.2lep": book}})
    assert "INCOMPLETE" not in capsys.readouterr().out


def test_of_many_rivals_the_terminal_names_the_best_baseline_and_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def entry(role: str, mean: float) -> dict[str, object]:
        point = {"mean": None, "error": None}
        delta = {"mean": mean, "error": 0.001, "worst": mean, "worst_error": 0.001}
        return {"role": role, "delta_auc": delta, "eps_s": {"1e-2": point, "1e-3": point}}

    scores = {
        "score": entry("model", -0.01),
        "baseline-pca": entry("baseline", -0.04),
        "baseline-mahalanobis": entry("baseline", -0.02),
        "mll": entry("variable", -0.3),
        "meff": entry("variable", -0.1),
        "best_variable": entry("oracle", 0.0),
    }
    power_table("2L", {"signals": {}, "summary": {"scores": scores, "signals": ["a"]}})
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("score", "baseline-mahalanobis", "meff", "best variable"))
    assert not any(name in shown for name in ("baseline-pca", "mll"))
    assert "2 weaker rivals in evaluate.json" in shown


@pytest.mark.usefixtures("terminal")
def test_numbers_stay_whole_in_a_narrow_window_and_what_is_left_out_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "64")
    monkeypatch.setenv("NO_COLOR", "1")
    name = "C1C1_SlepSnu_x0p50_400p0_100p0_2L8"
    numbers = [f"0.{column}87 ± 0.00{column}" for column in range(4)]
    show_table("Power", ("signal", "AUC", "its AUC", "difference", "eps_S"), [(name, *numbers)])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    lines = shown.splitlines()
    assert all(len(line) <= 64 for line in lines[:-1])
    assert numbers[0] in shown
    assert numbers[2] in shown
    assert lines[-1] == "a wider window shows also: eps_S"


def test_yields_end_with_the_sum_of_all_background(capsys: pytest.CaptureFixture[str]) -> None:
    def book(kind: str, group: str, selected: int, sumw: float, sumw2: float) -> dict[str, object]:
        return {
            "kind": kind, "group": group, "events_read": 2 * selected, "selected": selected,
            "sumw": sumw, "sumw2": sumw2,
        }  # fmt: skip

    datasets = {
        "a": book("background", "Zjets", 3000, 1200.0, 900.0),
        "b": book("background", "ttbar", 400, 300.0, 1600.0),
        "c": book("data", "data", 1500, 1500.0, 14400.0),
    }
    yields_table("2L", {"lumi_pb": 10.0, "datasets": datasets})
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Zjets background 6,000 3,000 1,200 ± 30" in rows
    assert "sum background 6,800 3,400 1,500 ± 50" in rows  # sqrt(30^2 + 40^2)
    assert "data data 3,000 1,500 1,500 ± 120" in rows


def test_a_training_counts_the_events_of_its_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    with training_bar("training 2L", 1000) as tell_epoch:
        tell_epoch(1, 3, 0.5, 0.6)
        tell_epoch(2, 3, 0.25, 0.3)
    said = capsys.readouterr().err
    assert said.startswith("training 2L: 2,000 events, ")
    assert said.endswith("(epoch 2 of 3, loss 0.25, validation 0.3)\n")


def test_what_does_not_say_how_far_it_is_says_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("fitting baselines 2L"):
        pass
    assert capsys.readouterr().err == "fitting baselines 2L: done in 0.1 s\n"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar("checking files") as tick:
        tick(2, 2, "")
    assert capsys.readouterr().err.startswith("checking files: 2 in ")


def test_regions_that_leave_the_results_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    selection = tmp_path / "select.json"
    regions_left_out(selection, ["3L"])
    selection.write_text(json.dumps({"regions": {"2L": {}, "3L": {}}}), encoding="utf-8")
    regions_left_out(selection, ["2L", "3L", "b"])
    assert not capsys.readouterr().out
    regions_left_out(selection, ["3L"])
    told = capsys.readouterr().out
    assert "region 2L of an earlier run stays on disk" in told
    assert "give another --output" in told


@pytest.mark.parametrize(("n_train", "told"), [(26, True), (440, False)])
def test_a_model_that_has_seen_next_to_nothing_is_called_so(
    n_train: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"collapsed": False, "features": ["x"] * 44, "trained_on": {"n_train": n_train}}
    training_remarks(Path("models/b/default-table"), card)
    assert ("was trained on 26 events alone, with 44 inputs" in capsys.readouterr().out) == told
