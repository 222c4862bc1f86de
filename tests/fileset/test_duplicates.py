"""Events read twice are found without holding all events in memory."""

import numpy as np
import pytest

from fileset import duplicates
from fileset.audit import AuditError, check
from fileset.resolve import resolve
from fileset.settings import FilesetSettings


def shared_events(skim):
    with pytest.raises(AuditError) as caught:
        check(resolve(FilesetSettings(fileset=str(skim)), ["2L"]))
    return [finding for finding in caught.value.audit.findings if finding.kind == "same event twice"]


@pytest.mark.parametrize("at_once", [10, 1_000])
def test_parts_find_the_same_events_as_the_whole(skim, write_file, monkeypatch, at_once):
    monkeypatch.setattr(duplicates, "EVENTS_AT_ONCE", at_once)
    write_file(skim / "Data" / "data_C.2lep.root", dsid=0, first=15)
    (finding,) = shared_events(skim)
    assert "share 6 events, the first in entries 0 and 14" in finding.message


def test_three_files_are_compared_with_one_another(skim, write_file):
    write_file(skim / "Data" / "data_C.2lep.root", dsid=0, first=15)
    write_file(skim / "Data" / "data_D.2lep.root", dsid=0, first=33)
    found = {finding.message.split(" share ")[1][:8] for finding in shared_events(skim)}
    assert found == {"6 events", "2 events"}


def test_files_of_disjoint_event_numbers_are_not_read_again(skim, monkeypatch):
    monkeypatch.setattr(duplicates, "_read_part", None)
    check(resolve(FilesetSettings(fileset=str(skim)), ["2L"]))


def test_interleaved_event_numbers_are_no_duplicates(skim, write_file):
    even = {"eventNumber": np.arange(0, 40, 2, dtype=np.int32)}
    odd = {"eventNumber": np.arange(1, 41, 2, dtype=np.int32)}
    write_file(skim / "Data" / "data_A.2lep.root", dsid=0, replace=even)
    write_file(skim / "Data" / "data_B.2lep.root", dsid=0, replace=odd)
    check(resolve(FilesetSettings(fileset=str(skim)), ["2L"]))
