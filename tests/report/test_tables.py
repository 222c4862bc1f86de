"""Tables add up, and their CSV files hold the unrounded numbers."""

import csv
from pathlib import Path
from typing import Any

import pytest

from report.tables import Cell, Table, cutflow_table, missing_table, stages_table, write_csv, yields_table


def test_yields_add_up_over_datasets_and_groups(selection: dict[str, Any]) -> None:
    datasets = selection["datasets"]
    table = yields_table("2L", datasets)
    expected = sum(entry["sumw"] for entry in datasets.values() if entry["kind"] == "background")
    background, data, ratio = table.totals
    assert background[-1].value == pytest.approx(expected)
    assert background[-1].error == pytest.approx(
        sum(entry["sumw2"] for entry in datasets.values() if entry["kind"] == "background") ** 0.5
    )
    observed = sum(entry["sumw"] for entry in datasets.values() if entry["kind"] == "data")
    assert data[-1].value == observed
    assert ratio[-1].value == pytest.approx(observed / expected)
    shown = [row[-1].value for row in table.rows if row[1].value == "background"]
    assert sum(float(value or 0) for value in shown) == pytest.approx(expected)


def test_a_cutflow_starts_with_all_and_falls_to_the_yield(selection: dict[str, Any]) -> None:
    table = cutflow_table("2L", selection["cuts"], selection["datasets"])
    assert [row[0].value for row in table.rows] == selection["cuts"]
    place = table.columns.index("Background")
    sums = [float(row[place].value or 0) for row in table.rows]
    assert sums == sorted(sums, reverse=True)
    assert sums[-1] == pytest.approx(
        float(yields_table("2L", selection["datasets"]).totals[0][-1].value or 0)
    )
    assert len(table.columns) == len(table.rows[0])


def test_columns_of_dashes_are_aligned_as_numbers_and_columns_of_words_are_not() -> None:
    dash = Cell("\u2013", None)
    rows = [[Cell("a", "a"), Cell("1", 1), dash, Cell("yes", "yes")], [Cell("b", "b"), dash, dash, dash]]
    assert Table("name", "", ["w", "x", "y", "z"], rows).numbers == [False, True, True, False]


def test_a_stage_that_reads_no_events_has_its_time_alone() -> None:
    done = {"seconds": 12.3, "events": 1000, "events_before": 24, "events_per_second": 81.3, "chunks": 3}
    select, train = stages_table(
        {"select": {**done, "bytes_read": 2_500_000}, "train": {"seconds": 5.0}}
    ).rows
    assert [cell.html for cell in select] == ["select", "12 s", "1\u202f000", "24", "81.3", "2.50", "3"]
    assert [cell.value for cell in train] == ["train", 5.0, None, None, None, None, None]


def test_a_csv_file_has_the_numbers_and_errors_unrounded(selection: dict[str, Any], tmp_path: Path) -> None:
    table = yields_table("2L", selection["datasets"])
    with write_csv(table, tmp_path).open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table.rows) + len(table.totals)
    assert float(lines[0]["Σw ± error"]) == table.rows[0][-1].value
    assert float(lines[0]["Σw ± error (error)"]) == table.rows[0][-1].error
    assert all(set(line) == set(lines[0]) for line in lines)


def test_every_row_of_a_csv_file_of_incomplete_input_says_so(
    selection: dict[str, Any], tmp_path: Path
) -> None:
    table = yields_table("2L", selection["datasets"])
    with write_csv(table, tmp_path, remark="INCOMPLETE").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["Remark"] for line in lines} == {"INCOMPLETE"}
    assert float(lines[0]["Σw ± error"]) == table.rows[0][-1].value


def test_missing_ranges_are_listed_with_start_stop_and_cause() -> None:
    entry = {"file": "a.root", "start": 5, "stop": 10, "dataset": "1.A.2lep", "cause": "OSError: <gone>"}
    ((dataset, file, start, stop, cause),) = missing_table([entry]).rows
    assert (dataset.value, file.value) == ("1.A.2lep", "a.root")
    assert (start.value, stop.value) == (5, 10)
    assert cause.html == "OSError: &lt;gone&gt;"
