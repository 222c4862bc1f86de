"""Scores come back to ROOT users as friends of the input trees, matched by run and event number."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from processors.friends import write_friends

N = 40


@pytest.fixture
def scores(tmp_path: Path) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    """Scores of every third event of an input file of the 2020 release, some of whose numbers are negative."""
    rng = np.random.default_rng(4)
    number = rng.choice(2**32, N, replace=False).astype(np.uint32).view(np.int32)
    assert (number < 0).any()
    events = {
        "runNumber": np.where(np.arange(N) < 20, 284500, 297730).astype(np.int32),
        "eventNumber": number,
        "channelNumber": np.full(N, 361106, np.int32),
        "met_et": rng.exponential(3e4, N).astype(np.float32),
    }
    with uproot.recreate(tmp_path / "input.root") as file:
        file.mktree("mini", {name: column.dtype for name, column in events.items()})
        file["mini"].extend(events)
    chosen = np.arange(0, N, 3)
    table = {
        "channelNumber": events["channelNumber"][chosen],
        "runNumber": events["runNumber"][chosen],
        "eventNumber": number[chosen].view(np.uint32).astype(np.uint64),
        "weight": rng.normal(1, 0.1, len(chosen)),
        "flcomp": np.full(len(chosen), 6, np.int8),
        "split": rng.integers(0, 3, len(chosen)).astype(np.uint8),
        "score": rng.normal(0, 1, len(chosen)).astype(np.float32),
        "score_mae": rng.normal(0, 1, len(chosen)).astype(np.float32),
    }
    shards = []
    for start in (0, 8):
        part = {name: column[start : start + 8] for name, column in table.items()}
        pq.write_table(pa.table(part), tmp_path / f"{start}.parquet")
        shards.append({"path": f"{start}.parquet", "dataset": "Zee"})
    manifest = {
        "scores": ["mse", "mae"],
        "datasets": {"Zee": {"release": "2020"}, "ttbar": {"release": "2020"}},
        "shards": shards,
    }
    return tmp_path, manifest, {**events, "chosen": chosen, "score": table["score"]}


def test_a_friend_holds_the_selected_events_with_numbers_as_in_the_input(scores: Any) -> None:
    directory, manifest, events = scores
    (directory / "friends").mkdir()
    (directory / "friends" / "gone.root").touch()
    assert write_friends(directory, manifest) == [
        {"path": "friends/Zee.root", "dataset": "Zee", "rows": len(events["chosen"])}
    ]
    assert [path.name for path in (directory / "friends").iterdir()] == ["Zee.root"]
    with uproot.open(directory / "friends" / "Zee.root") as file:
        tree = file["scores"].arrays(library="np")
    assert set(tree) == {
        *("runNumber", "eventNumber", "channelNumber", "weight", "flcomp", "split", "score", "score_mae")
    }
    for name in ("runNumber", "eventNumber"):
        np.testing.assert_array_equal(tree[name], events[name][events["chosen"]])
    np.testing.assert_array_equal(tree["score"], events["score"])


def test_writing_again_gives_the_same_content(scores: Any) -> None:
    directory, manifest, _ = scores
    contents = []
    for _ in range(2):
        write_friends(directory, manifest)
        with uproot.open(directory / "friends" / "Zee.root") as file:
            contents.append(file["scores"].arrays(library="np"))
    for name, column in contents[0].items():
        np.testing.assert_array_equal(contents[1][name], column, err_msg=name)


def test_a_friend_of_incomplete_input_says_so_and_by_how_much(scores: Any) -> None:
    directory, manifest, _ = scores
    write_friends(directory, manifest)
    with uproot.open(directory / "friends" / "Zee.root") as file:
        assert file.keys(cycle=False) == ["scores"]
    books = {"Zee": {"release": "2020", "scale": 1.25}, "ttbar": {"release": "2020", "scale": 1.0}}
    write_friends(directory, {**manifest, "datasets": books, "complete": False})
    with uproot.open(directory / "friends" / "Zee.root") as file:
        assert (
            str(file["INCOMPLETE"]) == "input of this dataset is missing: its weights are scaled up by 1.25"
        )
        assert file["scores"].title == "scores of Zee (INCOMPLETE)"
    books = {"Zee": {**books["Zee"], "scale": 1.0}, "ttbar": {**books["ttbar"], "scale": 1.5}}
    write_friends(directory, {**manifest, "datasets": books, "complete": False})
    with uproot.open(directory / "friends" / "Zee.root") as file:
        assert str(file["INCOMPLETE"]) == "input of other datasets is missing: ttbar"


# In a process of its own: ROOT and TensorFlow bring two compilers that do not share one.
READ_BY_ROOT = """
import json, sys
import numpy as np
import ROOT

inputs, friends = (ROOT.TFile.Open(path) for path in sys.argv[1:])
events, scores = inputs.Get("mini"), friends.Get("scores")
indexed = scores.BuildIndex("runNumber", "eventNumber")
events.AddFriend(scores)
frame = ROOT.RDataFrame(events).FilterAvailable("scores.score")
by_event = frame.AsNumpy(["eventNumber", "met_et", "scores.score"])
events.RemoveFriend(scores)
events.BuildIndex("runNumber", "eventNumber")
scores.AddFriend(events)
drawn = scores.Draw("score:mini.met_et:mini.eventNumber", "", "goff")
columns = scores.GetV1(), scores.GetV2(), scores.GetV3()
by_score = [np.frombuffer(column, count=drawn).tolist() for column in columns]
print(json.dumps([indexed, {name: column.tolist() for name, column in by_event.items()}, by_score]))
"""


@pytest.mark.root
@pytest.mark.skipif(find_spec("ROOT") is None, reason="the ROOT wheel is not installed")
def test_root_finds_scores_of_events_and_events_of_scores_by_run_and_event_number(scores: Any) -> None:
    directory, manifest, events = scores
    write_friends(directory, manifest)
    files = [str(directory / name) for name in ("input.root", "friends/Zee.root")]
    command = [sys.executable, "-c", READ_BY_ROOT, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    indexed, by_event, (score, met, number) = json.loads(done.stdout)
    chosen = events["chosen"]
    assert indexed == len(chosen)
    # An event that was not selected has no score: FilterAvailable leaves it out.
    np.testing.assert_array_equal(by_event["eventNumber"], events["eventNumber"][chosen])
    np.testing.assert_array_equal(by_event["met_et"], events["met_et"][chosen])
    np.testing.assert_array_equal(np.float32(by_event["scores.score"]), events["score"])
    # The other way round only selected events are met.
    np.testing.assert_array_equal(number, events["eventNumber"][chosen])
    np.testing.assert_array_equal(np.float32(met), events["met_et"][chosen])
    np.testing.assert_array_equal(np.float32(score), events["score"])
