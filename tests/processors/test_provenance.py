"""run.json says where results come from and what each stage took; older readers find what they knew."""

from pathlib import Path
from typing import Any

import pytest

from processors.files import read_json, write_json
from processors.progress import Tally
from processors.provenance import recorded

CONFIG = {"seed": 5}


def record(
    output: Path, stage: str, tally: Tally | None = None, spent: Tally | None = None
) -> dict[str, Any]:
    with recorded(output, stage, config=CONFIG, command=["run_analysis.py", stage], tally=tally):
        if tally is not None and spent is not None:
            for name, value in vars(spent).items():
                setattr(tally, name, getattr(tally, name) + value)
    return dict(read_json(output / "run.json"))


def test_a_stage_that_reads_no_events_tells_its_time(tmp_path: Path) -> None:
    done = record(tmp_path, "report", Tally())
    assert done["stages"]["report"] == {"seconds": done["timings"]["report"]}
    assert (done["command"], done["seeds"]["split"]) == (["run_analysis.py", "report"], 5)


def test_secrets_of_addresses_are_not_written_down(tmp_path: Path) -> None:
    address = "tcp://bob:s3cret@127.0.0.1:9"
    config = {"seed": 5, "execution": {"scheduler": address}}
    with recorded(tmp_path, "select", config=config, command=["run_analysis.py", "--scheduler", address]):
        pass
    done = read_json(tmp_path / "run.json")
    assert done["command"][2] == done["config"]["execution"]["scheduler"] == "tcp://127.0.0.1:9"


def test_each_stage_tells_its_own_events(tmp_path: Path) -> None:
    tally = Tally()
    first = Tally(chunks=2, events=3000, bytes_read=10_000, seconds=1.5, processing_seconds=2.5)
    record(tmp_path, "select", tally, first)
    done = record(tmp_path, "score", tally, Tally(chunks=1, events=500, chunks_before=3, events_before=70))
    assert done["stages"]["select"] | {"seconds": 0} == {
        "seconds": 0,
        "events": 3000,
        "events_before": 0,
        "events_per_second": 2000.0,
        "bytes_read": 10_000,
        "chunks": 2,
        "chunks_before": 0,
        "working_seconds": 1.5,
        "processing_seconds": 2.5,
    }
    assert (done["stages"]["score"]["events"], done["stages"]["score"]["events_before"]) == (500, 70)
    assert set(done["timings"]) == {"select", "score"}


def test_a_stage_that_found_all_done_has_no_rate(tmp_path: Path) -> None:
    cost = record(tmp_path, "select", Tally(), Tally(chunks_before=4, events_before=900))["stages"]["select"]
    assert (cost["events"], cost["events_before"], cost["events_per_second"]) == (0, 900, 0.0)


def test_a_run_json_of_an_older_version_is_added_to(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"format": 1, "timings": {"select": 3.0}})
    done = record(tmp_path, "score")
    assert done["timings"]["select"] == 3.0
    assert set(done["stages"]) == {"score"}


def test_a_stage_that_fails_leaves_no_record(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="disk"),
        recorded(tmp_path, "select", config=CONFIG, command=[], tally=Tally()),
    ):
        raise OSError("disk")  # noqa: EM101 - stands for a stage
    assert not (tmp_path / "run.json").exists()
