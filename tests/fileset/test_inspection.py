"""The identity of events, and what is read of a large file."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fileset.inspection import FULL_ENTRIES, STEP, Task, _ranges, identity_hash, inspect_file


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**63)), max_size=50))
def test_events_share_a_hash_only_with_themselves(events):
    columns = np.array(events, dtype=np.uint64).reshape(-1, 3).T
    hashes = identity_hash(*columns)
    assert len(set(hashes.tolist())) == len(set(events))


def test_a_wrapped_event_number_is_that_of_the_unwrapped():
    channel = run = np.array([300655])
    wrapped = np.array([-294967296], np.int32)
    assert identity_hash(channel, run, wrapped) == identity_hash(
        channel, run, np.array([4_000_000_000], np.uint64)
    )


def test_the_place_of_a_number_matters():
    one, two = np.array([1]), np.array([2])
    assert identity_hash(one, two, one) != identity_hash(two, one, one)


def test_small_files_are_read_in_full_and_large_ones_in_ranges_spread_evenly():
    small = _ranges(250_000, remote=False)
    assert small == [(0, STEP), (STEP, 2 * STEP), (2 * STEP, 250_000)]
    large = _ranges(30_000_000, remote=False)
    assert large[0][0] == 0
    assert large[-1][1] == 30_000_000
    assert sum(stop - start for start, stop in large) <= FULL_ENTRIES
    remote = _ranges(1_000_000, remote=True)
    assert sum(stop - start for start, stop in remote) < 10_000


def test_the_question_follows_what_is_asked_and_not_how():
    task = Task("x.root", "mini", "2020", True)
    assert task.question == Task("x.root", "mini", "2020", True, timeout=1.0).question
    assert task.question != Task("x.root", "mini", "2020", False).question
    assert task.question != Task("x.root", "mini", "2020", True, checksum=True).question


def test_a_record_is_plain_json(skim):
    path = str(skim / "MC" / "mc_361106.Zee.2lep.root")
    record = inspect_file(Task(path, "mini", "2020", True, checksum=True))
    assert json.loads(json.dumps(record)) == record
    assert record["channels"] == [361106]
    assert record["runs"] == [[361106, 284500, 1, 20]]
    assert record["clusters"] == [0, 20]
    assert record["checksum"].startswith("adler32:")


def test_a_file_that_does_not_exist_is_said():
    assert inspect_file(Task("nowhere.root", "mini", "2020", True))["error"] == "does not exist"
